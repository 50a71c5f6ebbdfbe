"""Composes every shipped recipe, and the file of solo-learn that it stands on, as hydra does."""

import json
import re
import sys
from pathlib import Path

import solo.methods  # noqa: F401  (what a script of solo-learn has loaded when hydra starts)
import sp_solo
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

root = Path(sys.argv[1])
found = {}
for recipe in sorted(sp_solo.configs().glob("*/*_sp.yaml")):
    found_flags = re.search(r"--config-path (\S+) --config-name (\S+_sp.yaml)", recipe.read_text())
    folder, name = found_flags.groups()
    with initialize_config_dir(str(root / folder), version_base="1.2"):
        own = compose(recipe.name.replace("_sp", ""))
        with_sp = compose(name)
    found[name] = [OmegaConf.to_container(own), OmegaConf.to_container(with_sp)]
print(json.dumps(found))
