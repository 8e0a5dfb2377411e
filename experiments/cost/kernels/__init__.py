"""Experiment `kernels`: SMT's pieces one by one."""
