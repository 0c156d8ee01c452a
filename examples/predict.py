# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Verdicts of an exported model: ``python predict.py model.xml part.png ...``; needs openvino, numpy and pillow."""

import sys

from anomalib_mkd.deploy import Inferencer

sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be anything
if len(sys.argv) < 3:
    sys.exit(__doc__)
model, *files = sys.argv[1:]
try:
    for file, prediction in zip(files, Inferencer(model).predict_many(files), strict=True):
        print(f"{file}: {'bad' if prediction.bad else 'good'}, score {prediction.score:.2f}")
        for box in prediction.boxes:
            print(f"  {box.left},{box.top} to {box.right},{box.bottom}: {box.area} pixels, highest {box.score:.2f}")
except (ValueError, OSError) as error:
    sys.exit(str(error))
