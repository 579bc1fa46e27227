# SPDX-License-Identifier: Apache-2.0
"""Fields that several entries of a configuration have: what they accept, and what they mean.

The types are for options of sources and of labels alike, so they import neither: an agent pays in
memory only for what its configuration names. Defaults are the business of each entry.
"""
