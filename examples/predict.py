# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Verdicts of an exported model on files; needs openvino, numpy and pillow."""

import argparse
import sys

from anomalib_mkd.deploy import Inferencer

sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be anything
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("model", help="the .xml file of an export")
parser.add_argument("files", nargs="+")
parser.add_argument("--category", help="category of the images, in a model of several")
options = parser.parse_args()
try:
    predictions = Inferencer(options.model, category=options.category).predict_many(options.files)
    for file, prediction in zip(options.files, predictions, strict=True):
        print(f"{file}: {'bad' if prediction.bad else 'good'}, score {prediction.score:.2f}")
        for box in prediction.boxes:
            print(f"  {box.left},{box.top} to {box.right},{box.bottom}: {box.area} pixels, highest {box.score:.2f}")
except (ValueError, OSError) as error:
    sys.exit(str(error))
