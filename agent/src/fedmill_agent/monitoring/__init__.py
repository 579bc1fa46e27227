# SPDX-License-Identifier: Apache-2.0
"""From which score on a window is abnormal on this agent, for jobs without labels."""
