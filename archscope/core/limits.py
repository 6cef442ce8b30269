"""The most that a file may hold: more is damage, or a file of another kind.

A file is refused by these before anything of the size that it claims is made.
"""

# bytes of a file, or of the part of it that is read
RECORD = 1 << 28  # a saved trace, a stored record, an ONNX graph without its weights
LOCK = 1 << 27
RUNS = 1 << 27  # results of bench
TABLE = 1 << 24  # a printed table
SHEET = 1 << 22  # a worksheet
SETTINGS = 1 << 22  # pyproject.toml, archscope.toml, the note of a sweep, the argument of a builder
CONFIG = 1 << 24  # a config.json of the Hugging Face hub
HEADER = 100_000_000  # of a .safetensors file, as the format says
GGUF_NAME = 1 << 16  # a name in a .gguf file
ONNX_DATA = 1 << 16  # of an ONNX tensor whose values are kept: shapes, sizes, scales

# counts
CELL = 2_000  # characters in a cell of a printed table or a worksheet
ROWS = 10_000  # lines of one
GGUF_TEXTS = 1 << 22  # texts in a list: tokens of a vocabulary
DIGITS = 24  # of a printed number
NUMBER = 1 << 53  # a number in a record that is no size: an argument, a configuration
SIDE = 1 << 53  # of a tensor in a record
ELEMENTS = 1 << 62  # of a tensor in a record
INPUT = 1 << 40  # elements of an input, of a tensor in a graph; a number in a config.json
VALUES = 100_000  # in a configuration that is an argument of a builder
LAYERS = 1_000  # a number of layers in a config.json; DeepNet (arXiv:2203.00555) has the most that was published
AXES = 64  # of a tensor

# levels
DEPTH = 32  # values within values, graphs within graphs
GGUF_DEPTH = 8  # arrays in arrays
