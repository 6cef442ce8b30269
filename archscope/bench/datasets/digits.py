"""1,797 real images of digits from scikit-learn."""

from archscope.bench.datasets.base import Data, Lookup, NetworkInput, Split, dataset
from archscope.core.errors import SpecError


@dataset("digits", train=1_440, test=357, example="1×8×8, 10 classes", origin="scikit-learn")
def scikit_learn_digits(needs: NetworkInput, lookup: Lookup) -> Data:
    """Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, 1998) from scikit-learn: 8×8, 0 to 16.

    In the stored order, the last ten of every fifty images are for testing: 1,440 and 357, every digit in both.
    """
    import torch

    try:
        from sklearn.datasets import load_digits  # type: ignore[import-untyped]
    except ImportError as error:
        raise SpecError(
            "the data set digits comes with scikit-learn, which is not installed: pip install scikit-learn, "
            "or use --dataset synthetic, which needs nothing"
        ) from error
    images, labels = load_digits(return_X_y=True)
    inputs = torch.from_numpy(images).reshape(-1, 1, 8, 8).mul(255 / 16).round().to(torch.uint8)
    whole = Split(inputs, torch.from_numpy(labels).long())
    return Data("digits", *whole.divided((torch.arange(len(whole)) // 10) % 5 == 4), 10, origin="scikit-learn")
