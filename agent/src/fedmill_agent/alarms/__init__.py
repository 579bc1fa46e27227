# SPDX-License-Identifier: Apache-2.0
"""When predictions are an alarm, who is told what of it, and how often."""
