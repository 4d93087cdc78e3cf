"""Faults of the platform's own machine: killed processes, full disks, absent dependencies, wrong clocks. Nothing answered is lost."""
