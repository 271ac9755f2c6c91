"""Names the pytest plugins of the packages, and nothing else."""

pytest_plugins = (
    "checks.plugin",
    "checks.canary_plugin",
    "checks.gx_plugin",
    "remediation.options",
    "remediation.plugin",
    "remediation.rollback_plugin",
    "reports.plugin",
    "demo.plugin",
)
