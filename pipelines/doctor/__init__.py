"""Diagnosis of an installation, a machine and a workspace, with the command that mends each problem."""
