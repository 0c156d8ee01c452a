# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Teacher and student compared: losses, anomaly maps and the model that holds them."""
