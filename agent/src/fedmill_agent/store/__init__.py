# SPDX-License-Identifier: Apache-2.0
"""Windows, labels and predictions on disk, bounded in bytes and age."""
