"""The data set: its title, its classes and its four files.

For another data set in MNIST's format, change the values here and the addresses in `lenet/data/sources.py`.
"""

TITLE = "MNIST"
ITEM, A_ITEM = "digit", "a digit"  # the words for an image in titles
# Whether other pictures must be scaled and centred as MNIST's drawings are (lenet/ink.py), or only resized.
LIKE_MNIST = True

# The names of the classes, for the labels 0, 1, 2, …
CLASSES = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")

# The size in bytes and the SHA-256 of each uncompressed file. `python -m tools.dev.checksums FILE…` prints these lines.
FILES = {
    "train-images-idx3-ubyte": (47_040_016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    "train-labels-idx1-ubyte": (60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    "t10k-images-idx3-ubyte": (7_840_016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    "t10k-labels-idx1-ubyte": (10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
}
