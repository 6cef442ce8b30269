"""Data for training: IDX files as they are on disk, what is found where, and images as Pillow would resize them."""

import gzip
import hashlib
import struct
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch

from archscope.bench.data import check, data_of
from archscope.bench.datasets import DATASETS, dataset, mnist
from archscope.bench.datasets.base import Data, Lookup, NetworkInput, Split
from archscope.bench.prepare import SplitBatches, resize
from archscope.core.errors import ArchscopeError, SpecError

GREY = NetworkInput((1, 28, 28), "float32", 10)
CPU = torch.device("cpu")


def packed(array: torch.Tensor) -> bytes:
    """LeCun's format by its description: 0 0 type axes, a big-endian length an axis, the bytes."""
    head = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + bytes(array.flatten().tolist())


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, bytes]:
    """A data set of twelve images under the name fashion-mnist, and nothing else on this machine."""
    made = torch.Generator().manual_seed(1)
    files = {
        "train-images-idx3-ubyte": packed(torch.randint(0, 256, (8, 28, 28), generator=made)),
        "train-labels-idx1-ubyte": packed(torch.arange(8)),
        "t10k-images-idx3-ubyte": packed(torch.randint(0, 256, (4, 28, 28), generator=made)),
        "t10k-labels-idx1-ubyte": packed(torch.tensor([9, 8, 7, 6])),
    }
    md5 = tuple(hashlib.md5(content).hexdigest() for content in files.values())
    monkeypatch.setitem(mnist.MD5, "fashion-mnist", md5)
    monkeypatch.setattr(mnist, "DEBIAN", tmp_path / "nowhere")
    monkeypatch.setenv("ARCHSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ARCHSCOPE_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return files


def put(folder: Path, files: dict[str, bytes], zipped: bool) -> None:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content)) if zipped else (folder / name).write_bytes(content)


@pytest.mark.parametrize("where", ["mine", "mine/FashionMNIST/raw", "mine/fashion-mnist"])
@pytest.mark.parametrize("zipped", [True, False])
def test_idx_files_in_every_layout(tiny: dict[str, bytes], tmp_path: Path, where: str, zipped: bool) -> None:
    put(tmp_path / where, tiny, zipped)
    data = data_of("fashion-mnist", GREY, Lookup(tmp_path / "mine"))
    assert data.train.inputs.shape == (8, 1, 28, 28) and data.train.inputs.dtype == torch.uint8
    assert data.train.inputs[0, 0].flatten().tolist() == list(tiny["train-images-idx3-ubyte"][16 : 16 + 784])
    assert data.train.labels.tolist() == list(range(8)) and data.test.labels.tolist() == [9, 8, 7, 6]
    assert data.train.labels.dtype == torch.int64 and not data.synthetic


def test_where_data_is_looked_for(tiny: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's folder, $ARCHSCOPE_DATA, ./data, the cache, Debian's: the first that has all four files."""
    order = ["mine", "told", "data", "cache/data", "debian/fashion-mnist"]
    monkeypatch.setenv("ARCHSCOPE_DATA", str(tmp_path / "told"))
    monkeypatch.setattr(mnist, "DEBIAN", tmp_path / "debian")
    for place in reversed(order):
        put(tmp_path / place, tiny, True)
        found = mnist.find_mnist("fashion-mnist", tmp_path / "mine")
        assert found is not None and found.resolve() == tmp_path / place
    (tmp_path / "mine" / "t10k-labels-idx1-ubyte.gz").unlink()
    found = mnist.find_mnist("fashion-mnist", tmp_path / "mine")
    assert found is not None and found.resolve() == tmp_path / "told"


def test_a_damaged_file_is_named(tiny: dict[str, bytes], tmp_path: Path) -> None:
    wrong = bytearray(tiny["train-images-idx3-ubyte"])
    wrong[100] ^= 1
    put(tmp_path / "data", tiny | {"train-images-idx3-ubyte": bytes(wrong)}, True)
    with pytest.raises(ArchscopeError, match="train-images-idx3-ubyte is damaged"):
        data_of("fashion-mnist", GREY)


def test_missing_data_is_one_sentence_with_the_ways_to_get_it(tiny: dict[str, bytes]) -> None:
    with pytest.raises(SpecError) as caught:
        data_of("fashion-mnist", GREY)
    for way in ("apt install dataset-fashion-mnist", "--download", "--data-dir", "digits", "synthetic"):
        assert way in str(caught.value)


def test_downloads_only_when_asked_and_only_what_is_right(
    tiny: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import FashionMNIST

    put(tmp_path / "server", tiny, True)
    zipped = [f"{name}.gz" for name in tiny]
    sums = [hashlib.md5((tmp_path / "server" / name).read_bytes()).hexdigest() for name in zipped]
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "server"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    monkeypatch.setattr(FashionMNIST, "resources", list(zip(zipped, sums, strict=True)))
    data = data_of("fashion-mnist", GREY, Lookup(download=True))
    assert len(data.train) == 8 and Path(data.origin).is_relative_to(tmp_path / "cache")
    assert len(data_of("fashion-mnist", GREY).train) == 8  # it is there now
    (tmp_path / "server" / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"else"))
    monkeypatch.setenv("ARCHSCOPE_CACHE", str(tmp_path / "empty"))
    with pytest.raises(ArchscopeError, match="cannot download fashion-mnist: .*corrupted"):
        data_of("fashion-mnist", GREY, Lookup(tmp_path / "other", download=True))
    assert not [path for path in (tmp_path / "other").rglob("*") if path.is_file()]
    server.shutdown()
    server.server_close()


def test_the_published_checksums_are_those_of_real_data() -> None:
    """Debian's package, where it is installed."""
    if not (mnist.DEBIAN / "fashion-mnist").is_dir():
        pytest.skip("dataset-fashion-mnist is not installed")
    (train, _, test, labels), _ = mnist.read_mnist("fashion-mnist", mnist.DEBIAN / "fashion-mnist")
    assert train.shape == (60_000, 28, 28) and test.shape == (10_000, 28, 28)
    assert [int((labels == i).sum()) for i in range(10)] == [1000] * 10  # Xiao et al. 2017: balanced


def test_digits_are_all_there_once() -> None:
    data = data_of("digits", GREY)
    assert len(data.train) + len(data.test) == 1797
    assert data.train.inputs.shape[1:] == (1, 8, 8)
    assert int(data.train.inputs.max()) == 255 and int(data.train.inputs.min()) == 0  # 16 and 0 as stored
    assert min(torch.bincount(data.test.labels).tolist()) > 30  # 357 of ten digits


def test_digits_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    with pytest.raises(SpecError, match="pip install scikit-learn"):
        data_of("digits", GREY)


def test_synthetic_data_are_said_to_be_so_and_the_same_each_time() -> None:
    once, again = (data_of("synthetic@train=600@test=50", NetworkInput((3, 16, 12), "float32", 7)) for _ in range(2))
    assert once.synthetic and once.text == "synthetic@train=600@test=50"
    assert once.train.inputs.shape == (600, 3, 16, 12) and torch.equal(once.train.inputs, again.train.inputs)
    # learnable: the mean image of a class tells its test images from others
    means = torch.stack([once.train.inputs[once.train.labels == c].double().mean(0) for c in range(7)])
    away = (once.test.inputs.double()[:, None] - means).pow(2).flatten(2).sum(2)
    assert (away.argmin(1) == once.test.labels).double().mean() > 0.95


def test_hello() -> None:
    data = data_of("auto", NetworkInput((5, 4), "float32", 4))
    assert data.name == "hello" and data.seen
    assert "".join(data.letters[i] for i in data.train.inputs[0].argmax(1)) == "hello"
    assert "".join(data.letters[i] for i in data.train.labels[0]) == "ohlol"
    assert data_of("hello", NetworkInput((5,), "int64", 4)).train.inputs.tolist() == [[1, 0, 2, 2, 3]]  # of e h l o


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("digist", "did you mean digits"),
        ("digits@train=2000", "has 1440 train examples, not 2000"),
        ("digits@size=3", "takes @train=N and @test=N"),
        ("digits@train=0", "whole number from 1 on"),
        ("hello", "for networks of sequences"),
        ("nowhere.py:load", "there is no file nowhere.py"),
    ],
)
def test_wrong_data_sets(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        data_of(text, GREY)


def test_one_data_set_a_name() -> None:
    with pytest.raises(ValueError, match="the data set 'digits' is registered twice"):
        dataset("digits", train=1, test=1, example="", origin="")(DATASETS["digits"].make)


def test_a_python_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "from torch.utils.data import TensorDataset\n"
        "def pair():\n    return (torch.zeros(4, 2), torch.tensor([0, 1, 2, 0])), (torch.ones(1, 2), [1])\n"
        "sets = [TensorDataset(torch.zeros(n, 2), torch.arange(n)) for n in (3, 1)]\n"
        "wrong = 7\n",
        encoding="utf-8",
    )
    data = data_of(f"{tmp_path}/mine.py:pair@train=3", NetworkInput((2,), "float32", 3))
    assert data.classes == 3 and data.train.inputs.shape == (3, 2) and data.test.labels.tolist() == [1]
    assert data_of(f"{tmp_path}/mine.py:sets", NetworkInput((2,), "float32", 3)).train.labels.tolist() == [0, 1, 2]
    with pytest.raises(SpecError, match="not a pair"):
        data_of(f"{tmp_path}/mine.py:wrong", GREY)
    with pytest.raises(SpecError, match="has no 'other'"):
        data_of(f"{tmp_path}/mine.py:other", GREY)


def test_a_folder_of_images(tmp_path: Path) -> None:
    from PIL import Image

    for split, count in (("train", 3), ("test", 2)):
        for number, name in enumerate(("cat", "dog")):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (20, 10), (number * 255, 0, 0)).save(tmp_path / split / name / f"{i}.png")
    data = data_of(str(tmp_path), NetworkInput((3, 8, 8), "float32", 2))
    assert data.train.inputs.shape == (6, 3, 8, 8) and data.test.labels.tolist() == [0, 0, 1, 1]
    assert data.train.inputs[-1, 0].unique().tolist() == [255] and data.classes == 2
    alone = data_of(str(tmp_path / "train"), NetworkInput((1, 8, 8), "float32", 2))
    assert len(alone.train) == 5 and len(alone.test) == 1  # every fifth of six
    (tmp_path / "test" / "cow").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "test" / "cow" / "0.png")
    with pytest.raises(SpecError, match="different classes: cow"):
        data_of(str(tmp_path), NetworkInput((3, 8, 8), "float32", 2))


# ------------------------------------------------------------------------------------------------------ preparing


@pytest.mark.parametrize("sides", [(28, 96), (28, 224), (8, 28), (8, 32), (28, 14), (224, 96), (28, 27), (1, 5)])
def test_resized_as_pillow_does_to_the_bit(sides: tuple[int, int]) -> None:
    from torchvision.transforms.functional import pil_to_tensor, to_pil_image
    from torchvision.transforms.functional import resize as pillow

    images = torch.randint(0, 256, (4, 1, sides[0], sides[0]), generator=torch.Generator().manual_seed(sides[1]))
    images = images.to(torch.uint8)
    wanted = torch.stack([pil_to_tensor(pillow(to_pil_image(image), [sides[1], sides[1]])) for image in images])
    assert torch.equal(resize(images, sides[1], sides[1]).to(torch.uint8), wanted)


def test_batches_are_what_torchvision_makes() -> None:
    """Resize, ToTensor and Normalize, one image at a time; grey repeated for a network of three channels."""
    from torchvision import transforms

    images = torch.randint(0, 256, (5, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    way = transforms.Compose(
        [
            transforms.ToPILImage(),
            transforms.Resize((28, 28)),
            transforms.ToTensor(),
            transforms.Normalize(0.1307, 0.3081),
        ]
    )
    split = Split(images, torch.arange(5))
    feed = SplitBatches(split, (3, 28, 28), "nchw", CPU, 0.1307, 0.3081)
    x, y = feed.batch(torch.tensor([3, 1]))
    assert y.tolist() == [3, 1] and x.shape == (2, 3, 28, 28)
    for i, number in enumerate((3, 1)):
        for channel in range(3):
            assert torch.equal(x[i, channel], way(images[number])[0])


def test_what_is_too_large_is_resized_a_batch_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    split = Split(torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8).repeat(3, 1, 1, 1), torch.zeros(3).long())
    once = SplitBatches(split, (1, 28, 28), "nchw", CPU)
    monkeypatch.setattr("archscope.bench.prepare.RESIDENT", 0)
    each = SplitBatches(split, (1, 28, 28), "nchw", CPU)
    assert once.inputs.shape[-1] == 28 and each.inputs.shape[-1] == 8
    both = [feed.batch(torch.tensor([0, 2]))[0] for feed in (once, each)]
    assert torch.equal(*both)


def test_sequences_in_the_layout_of_the_network() -> None:
    split = Split(torch.arange(24.0).reshape(2, 3, 4), torch.tensor([[1, 2, 3], [4, 5, 6]]))
    x, y = SplitBatches(split, (3, 4), "tnc", CPU).batch(torch.tensor([1, 0]))
    assert x.shape == (3, 2, 4) and x[0, 0].tolist() == [12, 13, 14, 15]
    assert y.tolist() == [4, 1, 5, 2, 6, 3]  # step by step, as the network flattens (t, n)
    _, y = SplitBatches(split, (3,), "nt", CPU).batch(torch.tensor([1, 0]))
    assert y.tolist() == [4, 5, 6, 1, 2, 3]


def test_data_that_do_not_fit_the_network() -> None:
    images = Split(torch.zeros(2, 2, 8, 8, dtype=torch.uint8), torch.tensor([0, 4]))
    with pytest.raises(ArchscopeError, match="set its num_classes to 5"):
        check(Data("d", images, images, 5), NetworkInput((3, 8, 8), "float32", 3))
    with pytest.raises(ArchscopeError, match="has 2 channels, and the network takes 3"):
        check(Data("d", images, images, 5), NetworkInput((3, 8, 8), "float32", 5))
