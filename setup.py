"""The part of the build that pyproject.toml cannot state: a wheel carries the repository's own configs/ and docs/labs/.

They stay where the repository documents them. A wheel gets them as mslab/lab/configs and mslab/lab/notebooks, a source
archive as they are; an editable installation reads them in place (mslab/experiments/lab.py finds either).
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
CARRIED = {"configs": "configs", "docs/labs": "notebooks"}  # folder here -> folder in mslab/lab/
KINDS = {".yaml", ".json", ".csv", ".ipynb"}


class BuildWithLab(build_py):
    """build_py, and the carried files copied into mslab/lab/."""

    def carried(self) -> dict[str, str]:
        """Path in the wheel -> path here, relative to the project. Empty where the project has no such folders."""
        files = {}
        for folder, name in CARRIED.items():
            for file in sorted((ROOT / folder).rglob("*")):
                inside = file.relative_to(ROOT / folder)
                if file.suffix in KINDS and not any(part.startswith(".") for part in inside.parts):
                    files[f"mslab/lab/{name}/{inside.as_posix()}"] = file.relative_to(ROOT).as_posix()
        return files

    def run(self) -> None:
        if self.editable_mode:
            super().run()
            return
        shutil.rmtree(Path(self.build_lib, "mslab"), ignore_errors=True)  # else a file deleted since would be packed
        super().run()
        for target, source in self.carried().items():
            place = Path(self.build_lib, target)
            place.parent.mkdir(parents=True, exist_ok=True)
            self.copy_file(str(ROOT / source), str(place), preserve_mode=False)

    # what setuptools asks a build step: its outputs, and the sources that a source archive has to have

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        own = [] if self.editable_mode else [str(Path(self.build_lib, target)) for target in self.carried()]
        return [*super().get_outputs(include_bytecode), *own]

    def get_output_mapping(self) -> dict[str, str]:
        own = {} if self.editable_mode else {str(Path(self.build_lib, t)): s for t, s in self.carried().items()}
        return {**super().get_output_mapping(), **own}

    def get_source_files(self) -> list[str]:
        return [*super().get_source_files(), *self.carried().values()]


setup(cmdclass={"build_py": BuildWithLab})
