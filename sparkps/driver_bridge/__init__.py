"""The driver's side: `PSContext`, the coordinator process, launchers, worker groups and their input."""
