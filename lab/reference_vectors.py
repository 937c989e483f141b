"""Writes services/classifier/data/reference_vectors.json with torch and transformers, an implementation not our own.

Run it in a virtual environment of its own (torch, transformers; neither is a dependency of this project):

    python lab/reference_vectors.py FOLDER_OF_THE_MODEL services/classifier/data/reference_vectors.json
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

__all__ = ["TEXTS"]

TEXTS = (
    "",
    "hi",
    "How do I reset my password?",
    "Translate into French: the train leaves at noon.",
    "def add(a, b):\n    return a + b  # why does this fail for strings and ints mixed?",
    "Prove that the square root of 2 is irrational, then generalise the proof to every non-square integer.",
    "¿Cuál es la capital de Australia? Réponds en français, bitte. 東京 \U0001f680 naïve café",
    "We run three services behind one load balancer. Since Tuesday the median latency is unchanged while the 99th "
    "percentile has tripled, only between 09:00 and 10:00, and only for tenants with more than a thousand users. "
    "The deploy on Monday changed the connection pool from 50 to 20 and turned on compression. Which of the two is "
    "the likelier cause, how would you tell them apart without a rollback, and what would you measure first?",
)


def main(model_folder: Path, output: Path) -> None:
    # Imported by name: mypy and the dependency lock know nothing of them.
    torch = importlib.import_module("torch")
    transformers = importlib.import_module("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder)
    model = transformers.AutoModel.from_pretrained(model_folder).eval()
    vectors = []
    for text in TEXTS:
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=256)
        with torch.no_grad():
            hidden = model(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        vector = torch.nn.functional.normalize(mean, p=2, dim=1)[0]
        vectors.append([round(value, 8) for value in vector.tolist()])
    made_with = f"torch {torch.__version__}, transformers {transformers.__version__}"
    document = {"model": "all-MiniLM-L6-v2/1", "made_with": made_with, "texts": TEXTS, "vectors": vectors}
    output.write_text(json.dumps(document, ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
