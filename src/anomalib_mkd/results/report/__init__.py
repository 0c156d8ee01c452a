# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""One self-contained page on what a model predicted: counts, curves, images and the circumstances of the run."""

from anomalib_mkd.results.report.gallery import Gallery
from anomalib_mkd.results.report.page import Run, command_of, write_report

__all__ = ["Gallery", "Run", "command_of", "write_report"]
