"""Says which links of a built site lead nowhere, and what else is wrong: python docs/check_links.py FOLDER."""

import sys
import sysconfig
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "video": "src", "source": "src"}

PACKAGES = sysconfig.get_path("purelib")


class Page(HTMLParser):
    """Where a page leads, what it fetches, and the places in it that can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.places |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif FETCHED.get(tag) in given and given.get("rel") != "canonical":
            self.fetched.append(given[FETCHED[tag]])


def problems(folder: Path) -> list[str]:
    """One line for each link that leads nowhere, thing that would be fetched, and page that shows where it was made."""
    pages = {file.resolve(): Page(file.read_text()) for file in sorted(folder.rglob("*.html"))}
    if not pages:
        return [f"{folder} holds no page"]
    found = []
    for file, page in pages.items():
        here = file.relative_to(folder.resolve())
        if PACKAGES in file.read_text():  # in a warning, as a rule
            found.append(f"{here}: shows {PACKAGES}, a folder of this machine")
        found += [f"{here}: fetches {target}" for target in page.fetched if urlsplit(target).netloc]
        for target in page.links + page.fetched:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            aim = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if not aim.exists():
                found.append(f"{here}: {target} is not there")
            elif parts.fragment and aim in pages and unquote(parts.fragment) not in pages[aim].places:
                found.append(f"{here}: {target}: there is no such place on the page")
    return found


if __name__ == "__main__":
    found = problems(Path(sys.argv[1]))
    print("\n".join(found) or "every link leads somewhere", file=sys.stderr if found else sys.stdout)
    sys.exit(1 if found else 0)
