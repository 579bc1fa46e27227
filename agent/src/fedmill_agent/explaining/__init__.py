# SPDX-License-Identifier: Apache-2.0
"""Why a model says what it says, in the words of tags and frequencies."""
