"""Images that are made from a seed, in the size that the network takes."""

from archscope.bench.datasets.base import Data, Lookup, NetworkInput, Split, dataset
from archscope.core.errors import SpecError

SYNTHETIC = (8192, 1024)  # examples for training and testing


@dataset(
    "synthetic",
    train=SYNTHETIC[0],
    test=SYNTHETIC[1],
    example="what the network takes; not real",
    origin="made by a seed",
)
def patterns(needs: NetworkInput, lookup: Lookup) -> Data:
    """A coarse pattern per class, plus noise. A network can learn it; its accuracy means nothing. For throughput."""
    import torch

    if len(needs.shape) != 3:
        raise SpecError("the data set synthetic makes images, which this network does not take")
    channels, *sides = needs.shape
    made = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 256, (needs.classes, channels, 4, 4), generator=made, dtype=torch.uint8)
    patterns = torch.nn.functional.interpolate(coarse.float(), size=sides)
    splits = []
    for count in SYNTHETIC:
        labels = torch.randint(0, needs.classes, (count,), generator=made)
        inputs = torch.empty((count, channels, *sides), dtype=torch.uint8)
        for part in torch.arange(count).split(512):  # never more than this as floats
            noise = torch.randint(0, 256, (len(part), channels, *sides), generator=made, dtype=torch.uint8)
            inputs[part] = patterns[labels[part]].add_(noise).div_(2).to(torch.uint8)
        splits.append(Split(inputs, labels))
    return Data("synthetic", *splits, classes=needs.classes, synthetic=True, origin="seed 0")
