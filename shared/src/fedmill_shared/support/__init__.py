# SPDX-License-Identifier: Apache-2.0
"""What goes to people who help from afar: enough to see what is wrong, no secrets, no data."""
