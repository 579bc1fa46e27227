# SPDX-License-Identifier: Apache-2.0
"""Plays recordings as a plant's devices would: behind a real OPC UA, Modbus or Sparkplug server.

For rehearsing a configuration before there is a plant, and for the demonstration. It is a command
of its own; the daemon never opens a port.
"""
