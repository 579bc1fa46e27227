# SPDX-License-Identifier: Apache-2.0
"""Model versions: ONNX export, gates, releases."""
