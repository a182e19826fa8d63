"""Make the bundled sentences from the source distribution of vaderSentiment. Each run of this script gives the same text.

    pip download --no-deps --no-binary :all: vaderSentiment==3.3.2
    tar xzf vaderSentiment-3.3.2.tar.gz && tar xzf vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz
    python make.py hutto_ICWSM_2014

The file contains one JSON object per line: a sentence of one of the four domains, with its id and its valence, which is the mean
rating of 20 people from -4 to 4. If a text occurs twice, in one domain or in two, only its first occurrence is kept.
"""

import gzip
import html
import json
import sys
from pathlib import Path

DOMAINS = {
    "tweets": "tweets",
    "movies": "movieReviewSnippets",
    "products": "amazonReviewSnippets",
    "editorials": "nytEditorialSnippets",
}


def main(folder: Path) -> None:
    rows, seen = [], set()
    for domain, name in DOMAINS.items():
        for line in (folder / f"{name}_GroundTruth.txt").read_text(encoding="utf-8", errors="replace").splitlines():
            number, valence, text = line.split("\t", 2)
            text = html.unescape(text).strip()
            if text and text.lower() not in seen:
                seen.add(text.lower())
                rows.append({"domain": domain, "id": number, "valence": round(float(valence), 4), "text": text})
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    with gzip.GzipFile(Path(__file__).with_name("vader.jsonl.gz"), "wb", 9, mtime=0) as file:
        file.write(text.encode())
    print(len(rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
