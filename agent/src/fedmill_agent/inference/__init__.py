# SPDX-License-Identifier: Apache-2.0
"""From a version on the wire to predictions: shelf on disk, installation, scoring."""
