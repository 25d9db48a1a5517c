"""Define the paths of models, photographs and the repository."""

from pathlib import Path

import skimage

ROOT = Path(__file__).parent.parent
MODELS = ROOT / "models"
PHOTOS = Path(skimage.__file__).parent / "data"
MODEL = "efficientnet_lite0"
EXAMPLE_PHOTO = ROOT / "examples" / "images" / "chelsea.jpg"
