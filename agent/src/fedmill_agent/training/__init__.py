# SPDX-License-Identifier: Apache-2.0
"""The training process (``python -m fedmill_agent.training``) and the handle the daemon has on it.

Only ``worker`` and ``__main__`` import torch; the daemon imports ``protocol`` and ``child``.
"""
