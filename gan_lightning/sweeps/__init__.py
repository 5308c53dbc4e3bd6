"""Searches for settings: Hydra's command line and launchers, Optuna's samplers, pruner and storage."""
