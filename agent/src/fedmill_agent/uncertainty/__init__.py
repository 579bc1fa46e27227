# SPDX-License-Identifier: Apache-2.0
"""How sure a prediction is, by what the model said of the agent's own validation windows."""
