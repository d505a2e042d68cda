"""Make .dvc/plots.html, the page that DVC fills with plots: `python -m tools.dev.plots_page`.

DVC's own page loads its scripts from the web, and is empty offline. This one contains them, with the licences that each
copy must include (.dvc/plots.LICENSES).
"""

import hashlib
from pathlib import Path

from lenet.data.sources import npm_file
from tools.errors import ToolError, run

PAGE = Path(".dvc/plots.html")
LICENSES = Path(".dvc/plots.LICENSES")
# npm packages in the order in which to load them, with the SHA-256 of each script. DVC's plots are written for
# vega-lite 5. The licences cover everything that these versions bundle.
SCRIPTS = {
    "vega@5.33.1": "463f3db6a40b20e9747b4ed38f37ed0add508838f9141b1cf8366784b07b30c8",
    "vega-lite@5.23.0": "58c27358e26f2d319cf62f45bc17a4c8362f08645001df2ec8d341eee4097c7f",
    "vega-embed@6.29.0": "12d02acfbe3ec59ef9a37dd4822a2e04e2961b5bbb671bbe661d2221715b99da",
}


def fetch(package: str) -> str:
    """Return the script of `package`."""
    script = npm_file(package, f"build/{package.partition('@')[0]}.min.js", limit=1 << 22)
    if (found := hashlib.sha256(script).hexdigest()) != SCRIPTS[package]:
        raise ToolError(f"the script of {package} has the SHA-256 {found} instead of {SCRIPTS[package]}", status=1)
    return script.decode()


def page(scripts: list[str], licenses: str) -> str:
    """Return the page. DVC replaces {plot_divs}; without a {scripts} placeholder, it omits its own scripts."""
    inlined = "\n".join(f"<script>{script}</script>" for script in scripts)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>DVC Plot</title>
<!--
{licenses}-->
{inlined}
<script>
// As SVG, plots stay sharp when they are enlarged or printed.
var embed = vegaEmbed;
vegaEmbed = (id, spec) => embed(id, spec, {{renderer: "svg"}});
</script>
</head>
<body>
{{plot_divs}}
</body>
</html>
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page([fetch(package) for package in SCRIPTS], LICENSES.read_text()))


if __name__ == "__main__":
    run(main)
