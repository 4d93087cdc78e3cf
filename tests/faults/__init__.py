"""Faults of the platform's machine: killed processes, full disks, missing dependencies, wrong clocks.

No served prediction may be lost.
"""
