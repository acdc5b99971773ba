"""From a corpus to Arrow: the plan, the build and its report."""
