"""Start a server, extract features of a photograph over gRPC, then print, save and draw them (``make demo``)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from layertap import Client
from layertap.viz import draw_maps

ROOT = Path(__file__).parent.parent
OUT = ROOT / "build" / "demo"
PHOTO = ROOT / "examples" / "images" / "coffee.jpg"
MODEL = "efficientnet_lite0"
TAPS = ["stage:1", "stage:3", "stage:5", "stage:4 | gap | l2 -> signature", "embedding", "logits | softmax -> classes"]


def start_server() -> tuple[subprocess.Popen[str], str]:
    """Start a server on a free port and return its process and address once it is ready."""
    command = [sys.executable, "-m", "layertap_server", "--models", str(ROOT / "models"), "--port", "0"]
    server = subprocess.Popen([*command, "--metrics-port", "-1"], stdout=subprocess.PIPE, text=True)  # noqa: S603
    banner = server.stdout.readline() if server.stdout else ""
    address = re.search(r" on (\S+:\d+) ", banner)
    if address is None:
        raise SystemExit("the server did not start")
    print(banner.strip())
    return server, address.group(1)


def main() -> None:
    """Run the demo."""
    OUT.mkdir(parents=True, exist_ok=True)
    server, address = start_server()
    try:
        with Client(address) as client:
            features = client.extract([PHOTO], model=MODEL, taps=TAPS)
            model = client.model(MODEL)
    finally:
        server.terminate()
        server.wait()
    print(f"\n{PHOTO.name}")
    classes = features["classes"][0]
    for number in np.argsort(-classes)[:5]:
        print(f"  {classes[number]:6.1%}  {number:3d}  {model.labels[number]}")
    print()
    for item in features.maps:
        print(f"  {item.name:<16} {item.array.dtype} {list(item.array.shape)}  from {item.layer}")
    timing = features.timing
    print(f"\n  decoded in {timing.decode_ms:.1f} ms, computed in {timing.compute_ms:.1f} ms (with compilation)")
    np.savez(OUT / "features.npz", **dict(features))  # type: ignore[arg-type]
    draw_maps(PHOTO, features, OUT / "maps.png", model=model)
    for name in ("features.npz", "maps.png"):
        print(f"  wrote {os.path.relpath(OUT / name)}")


if __name__ == "__main__":
    main()
