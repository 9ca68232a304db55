"""Makes potion-base-8M.bin.gz out of the published model (model.safetensors, tokenizer.json), once; see ORIGIN.md.

Layout, little endian: magic "HMSTAT1\n"; uint32 rows, dimensions; rows x (uint16 length, token in UTF-8);
rows x float32 scale; rows x dimensions x int8. A row is scale * int8. Also writes golden vectors of the original weights.
"""
import gzip, json, struct, sys

import numpy as np
from tokenizers import Tokenizer

folder, out, golden = sys.argv[1:4]
raw = open(folder + "/model.safetensors", "rb").read()
n = struct.unpack("<Q", raw[:8])[0]
meta = json.loads(raw[8 : 8 + n])["embeddings"]
a, b = meta["data_offsets"]
table = np.frombuffer(raw[8 + n + a : 8 + n + b], dtype="<f4").reshape(meta["shape"])
vocab = json.load(open(folder + "/tokenizer.json"))["model"]["vocab"]
tokens = [t for t, _ in sorted(vocab.items(), key=lambda kv: kv[1])]
assert len(tokens) == table.shape[0]

scale = np.abs(table).max(axis=1) / 127
scale[scale == 0] = 1
q = np.rint(table / scale[:, None]).astype(np.int8)
data = b"HMSTAT1\n" + struct.pack("<II", *table.shape)
for t in tokens:
    e = t.encode()
    data += struct.pack("<H", len(e)) + e
data += scale.astype("<f4").tobytes() + q.tobytes()
with open(out, "wb") as f, gzip.GzipFile(fileobj=f, mode="wb", compresslevel=9, mtime=0, filename="") as z:
    z.write(data)

tok = Tokenizer.from_file(folder + "/tokenizer.json")
texts = [
    "How do I set up the VPN on my laptop?",
    "Rotate the webhook signing secret without losing an event.",
    "Ünïcödé naïve café — 東京 is a city, 1,234.56 €!",
    "kubectl rollout restart deployment/hookmesh-gateway",
    "a",
]
rows = []
for t in texts:
    ids = [i for i in tok.encode(t, add_special_tokens=False).ids if i != vocab["[UNK]"]]
    v = table[ids].mean(axis=0)
    rows.append({"text": t, "ids": ids, "vector": [round(float(x), 6) for x in v / np.linalg.norm(v)]})
json.dump(rows, open(golden, "w"), ensure_ascii=False, separators=(",", ":"))
