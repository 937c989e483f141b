"""The other side of bench.classifier: sentence-transformers in a process (and an environment) of its own.

Reads one JSON line per job, {"texts": [...], "at_once": bool, "vectors": bool}, and answers with one line: the time of
each call and, if wanted, the vectors. One thread, set before torch starts. Needs only torch and sentence-transformers.
"""

from __future__ import annotations

import json
import os
import sys
import time

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TOKENIZERS_PARALLELISM"):
    os.environ[name] = "false" if name.startswith("TOK") else "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import sentence_transformers  # noqa: E402
import torch  # noqa: E402
from sentence_transformers import SentenceTransformer  # noqa: E402


def main() -> None:
    """Loads the model in the folder that is the only argument."""
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    model = SentenceTransformer(sys.argv[1], device="cpu")
    out = os.fdopen(os.dup(1), "w")
    ready = {"torch": torch.__version__, "sentence_transformers": sentence_transformers.__version__}
    print(json.dumps(ready), file=out, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        texts = job["texts"]
        calls = [texts] if job["at_once"] else [[text] for text in texts]
        times, rows = [], []
        for call in calls:
            began = time.perf_counter()
            found = model.encode(call, batch_size=32, show_progress_bar=False, normalize_embeddings=True)
            times.append((time.perf_counter() - began) * 1e3)
            if job["vectors"]:
                rows += found.tolist()
        print(json.dumps({"ms": times, "vectors": rows}), file=out, flush=True)


if __name__ == "__main__":
    main()
