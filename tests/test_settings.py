from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from resight.errors import ProjectExists, ProjectNotFound, SettingsError
from resight.settings import (
    ENVIRONMENT_VARIABLE,
    FILE_NAME,
    EncounterRule,
    IndividualMerge,
    LocalRules,
    Only,
    QualityRules,
    SpeciesMerge,
    add_image_root,
    find_project,
    read,
    write_new,
)


def written(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE_NAME).write_text(text, encoding="utf-8")
    return folder


def test_the_file_of_a_new_project_holds_the_defaults(tmp_path: Path) -> None:
    settings = write_new(tmp_path / "new" / "project")
    assert settings == read(tmp_path / "new" / "project")
    assert settings.catalogue_url == "sqlite:///catalogue.db"
    assert settings.resolved_catalogue_url == f"sqlite:///{tmp_path}/new/project/catalogue.db"
    assert settings.default_model is None
    assert settings.file == tmp_path / "new" / "project" / FILE_NAME
    for nothing in (settings.image_roots, settings.viewpoint_policy, settings.viewpoint_aliases):
        assert nothing == {}
    assert settings.species_merges == settings.individual_merges == ()
    with pytest.raises(ProjectExists, match=f"project is a project already; its settings are in .*{FILE_NAME}"):
        write_new(tmp_path / "new" / "project")


def test_an_empty_file_is_a_project_of_defaults(tmp_path: Path) -> None:
    assert read(written(tmp_path, "")).catalogue_url == "sqlite:///catalogue.db"


def test_every_setting_is_read(tmp_path: Path) -> None:
    settings = read(
        written(
            tmp_path,
            """
            [catalogue]
            url = "postgresql://host/db"
            [model]
            default = "my-run"
            [images.roots]
            here = "photos"
            there = "/data/photos"
            [viewpoints.policy]
            nyala = "separate"
            "whale_humpback+fluke" = "ignore"
            lion = { only = ["left", "front"] }
            [viewpoints.aliases]
            flank_l = "left"
            [sources]
            global_ids = ["tags"]
            [[merge.species]]
            into = "lion"
            from = ["panthera_leo", "african lion"]
            [[merge.species]]
            into = "cow"
            from = ["bos"]
            source = "farm"
            [[merge.individuals]]
            species = "lion"
            into = "Ayo"
            from = ["L-017"]
            source = "reserve"
            """,
        )
    )
    assert settings.catalogue_url == settings.resolved_catalogue_url == "postgresql://host/db"
    assert settings.default_model == "my-run"
    assert settings.image_roots == {"here": tmp_path / "photos", "there": Path("/data/photos")}
    assert settings.viewpoint_policy == {
        "nyala": "separate",
        "whale_humpback+fluke": "ignore",
        "lion": Only(("left", "front")),
    }
    assert settings.viewpoint_aliases == {"flank_l": "left"}
    assert settings.global_id_sources == {"tags"}
    assert settings.species_merges == (
        SpeciesMerge("lion", ("panthera_leo", "african lion")),
        SpeciesMerge("cow", ("bos",), "farm"),
    )
    assert settings.individual_merges == (IndividualMerge("lion", "Ayo", ("L-017",), "reserve"),)


def test_recipes_are_read_as_they_stand(tmp_path: Path) -> None:
    text = """
    [recipes.night]
    base = "tuned"
    epochs = 40
    use_set_aside = true
    augment.brightness = 0.5
    [recipes.night.augment.more]
    deep = 1
    [recipes."by day"]
    base = "night"
    """
    assert read(written(tmp_path, text)).recipes == {
        "night": {
            "base": "tuned",
            "epochs": 40,
            "use_set_aside": True,
            "augment": {"brightness": 0.5, "more": {"deep": 1}},
        },
        "by day": {"base": "night"},
    }
    assert read(written(tmp_path, "")).recipes == {}


def test_an_absolute_database_stays_where_it_is(tmp_path: Path) -> None:
    settings = read(written(tmp_path, '[catalogue]\nurl = "sqlite:////data/catalogue.db"'))
    assert settings.resolved_catalogue_url == "sqlite:////data/catalogue.db"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[catalogue]\nurl = 5", "catalogue.url is 5; expected text in quotes"),
        ('[catalogue]\nurl = ""', "catalogue.url is ''; expected text in quotes"),
        ('catalogue = "x.db"', "catalogue is 'x.db'; expected a table, written as [catalogue]"),
        ("[model]\ndefault = ['a']", "model.default is ['a']; expected text in quotes"),
        ("[images]\nroots = ['a']", "images.roots is ['a']; expected a table, written as [images.roots]"),
        ("[images.roots]\nhere = 1", "images.roots.here is 1; expected text in quotes"),
        (
            '[viewpoints.policy]\nlion = "seperate"',
            'viewpoints.policy.lion is \'seperate\'; expected "separate", "ignore" or { only = ["left"] }',
        ),
        ("[viewpoints.policy]\nlion = true", "viewpoints.policy.lion is True; expected"),
        ("[viewpoints.policy]\nlion = { only = [] }", "viewpoints.policy.lion is {'only': []}; expected"),
        ("[viewpoints.policy]\nlion = { only = 'left' }", "viewpoints.policy.lion.only is 'left'; expected a list"),
        (
            "[viewpoints.policy]\nlion = { only = ['port'] }",
            "viewpoints.policy.lion.only is 'port'; expected one of left, right, front, back, up, down",
        ),
        ("[viewpoints.aliases]\nl = 'lef'", "viewpoints.aliases.l is 'lef'; expected one of left, right"),
        ("[viewpoints.aliases]\nl = ['left']", "viewpoints.aliases.l is ['left']; expected one of left, right"),
        ("[encounters]\nsame = 'day'", 'encounters.same is \'day\'; expected "folder" or "camera"'),
        ("[encounters]\nwithin_minutes = -1", "encounters.within_minutes is -1; expected a number from 0"),
        ("[clocks]\nD500 = '1 h'", "clocks.D500 is '1 h'; expected \"+HH:MM:SS\""),
        ("[clocks]\nD500 = { showed = 'x', was = '2024-01-01T00:00:00' }", "clocks.D500 is {'showed': 'x', "),
        ("[quality]\nmax_cut_share = 30", "quality.max_cut_share is 30; expected a number from 0 to 1"),
        ("[quality]\nnear_duplicates = true", 'quality.near_duplicates is True; expected "keep" or "one"'),
        ("[quality.lion]\nmin_side_px = 'a'", "quality.lion.min_side_px is 'a'; expected a number from 0"),
        ("[sources]\nglobal_ids = 'tags'", "sources.global_ids is 'tags'; expected a list of texts"),
        ("[sources]\nglobal_ids = [1]", "sources.global_ids is [1]; expected a list of texts"),
        ("[[merge.species]]\nfrom = ['a']", "merge.species[0].into is None; expected text in quotes"),
        ("[[merge.species]]\ninto = 'b'", "merge.species[0].from is None; expected a list of texts"),
        ("[[merge.species]]\ninto = 'b'\nfrom = ['a']\nsource = 1", "merge.species[0].source is 1; expected text"),
        ("[merge.species]\ninto = 'b'", "merge.species is {'into': 'b'}; expected tables, each written as"),
        ("recipes = 3", "recipes is 3; expected a table, written as [recipes]"),
        ("[recipes]\nnight = 'tuned'", "recipes.night is 'tuned'; expected a table, written as [recipes.night]"),
        ("[[recipes.night]]\nbase = 'tuned'", "recipes.night is [{'base': 'tuned'}]; expected a table, written as"),
        ("[merge]\nspecies = 3", "merge.species is 3; expected tables, each written as [[merge.species]]"),
        ("[merge]\nindividuals = ['Ayo']", "merge.individuals is ['Ayo']; expected tables, each written as"),
        ("[[merge.individuals]]\ninto = 'b'\nfrom = ['a']", "merge.individuals[0].species is None; expected text"),
    ],
)
def test_a_wrong_value_is_one_line_with_file_key_value_and_what_was_expected(
    tmp_path: Path, text: str, complaint: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        read(written(tmp_path, text))
    assert str(caught.value).startswith(f"{tmp_path / FILE_NAME}: {complaint}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[catalog]\nurl = 'a'", "unknown key catalog; did you mean 'catalogue'?"),
        ("[recipe.night]\nbase = 'tuned'", "unknown key recipe; did you mean 'recipes'?"),
        ("[catalogue]\nurll = 'a'", "unknown key catalogue.urll; did you mean 'url'?"),
        ("[model]\ndefualt = 'a'", "unknown key model.defualt; did you mean 'default'?"),
        ("[images.rots]\na = 'b'", "unknown key images.rots; did you mean 'roots'?"),
        ("[viewpoints.alias]\na = 'left'", "unknown key viewpoints.alias; did you mean 'aliases'?"),
        ("[merge]\nxyz = []", "unknown key merge.xyz; known are individuals, species"),
        ("[sources]\nglobal_id = []", "unknown key sources.global_id; did you mean 'global_ids'?"),
        ("[[merge.species]]\ninto = 'b'\nform = ['a']", "unknown key merge.species[0].form; did you mean 'from'?"),
    ],
)
def test_an_unknown_key_is_an_error_with_the_nearest_known_one(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(complaint)):
        read(written(tmp_path, text))


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"not valid TOML .*line 2"):
        read(written(tmp_path, "[catalogue]\nurl = "))
    (tmp_path / FILE_NAME).write_bytes(b"[model]\ndefault = '\xe9t\xe9'")
    with pytest.raises(SettingsError, match=r"not UTF-8 text \(byte 19\)"):
        read(tmp_path)
    with pytest.raises(ProjectNotFound, match="resight init"):
        read(tmp_path / "nowhere")
    (tmp_path / "odd" / FILE_NAME).mkdir(parents=True)
    with pytest.raises(SettingsError, match="cannot be read"):
        read(tmp_path / "odd")


def test_adding_a_root_keeps_every_comment_and_value(tmp_path: Path) -> None:
    settings = write_new(tmp_path)
    before = settings.file.read_text(encoding="utf-8")
    text = before.replace('# nyala = "separate"', 'nyala = "ignore"  # both flanks are alike')
    settings.file.write_text(text, encoding="utf-8")
    photos = tmp_path / "photos of 2023"
    added = add_image_root(read(tmp_path), "reserve", photos)
    assert added.image_roots == {"reserve": photos}
    assert added.viewpoint_policy == {"nyala": "ignore"}
    after = settings.file.read_text(encoding="utf-8")
    lines = after.splitlines()
    assert [line for line in lines if line not in text.splitlines()] == ['reserve = "photos of 2023"']
    assert [line for line in text.splitlines() if line not in lines] == []
    assert lines.index("[images.roots]") < lines.index('reserve = "photos of 2023"')
    assert not any(line.startswith("[") for line in lines[lines.index("[images.roots]") + 1 :])
    outside = add_image_root(added, "card", tmp_path.parent / "card")
    assert f'card = "{tmp_path.parent / "card"}"' in outside.file.read_text(encoding="utf-8").splitlines()


def test_rules_for_raw_photos_are_read(tmp_path: Path) -> None:
    text = """
        [encounters]
        same = "camera"
        within_minutes = 5
        [clocks]
        "NIKON D500" = "-01:30:00"
        "DCIM/100" = "+49:00"
        reset = { showed = "1970-01-01T00:10:00", was = 2024-05-01T10:00:00 }
        [quality]
        min_side_px = 60
        near_duplicates = "one"
        [quality.lion]
        max_cut_share = 0.5
    """
    settings = read(written(tmp_path, text))
    assert settings.encounter_rule == EncounterRule("camera", 5.0)
    assert settings.clocks == {
        "NIKON D500": timedelta(hours=-1, minutes=-30),
        "DCIM/100": timedelta(hours=49),
        "reset": datetime(2024, 5, 1, 10) - datetime(1970, 1, 1, 0, 10),
    }
    assert settings.quality_rules("zebra") == settings.quality_rules(None)
    assert settings.quality_rules("zebra") == QualityRules(min_side_px=60.0, one_of_duplicates=True)
    assert settings.quality_rules("lion") == QualityRules(max_cut_share=0.5)


def test_a_root_that_is_there_is_left_and_a_second_one_joins_it(tmp_path: Path) -> None:
    settings = add_image_root(write_new(tmp_path), "one", tmp_path / "one")
    before = settings.file.read_bytes()
    assert add_image_root(settings, "one", tmp_path / "x" / ".." / "one") == settings
    assert settings.file.read_bytes() == before
    both = add_image_root(settings, "two", tmp_path / "two")
    assert both.image_roots == {"one": tmp_path / "one", "two": tmp_path / "two"}


@pytest.mark.parametrize("text", ["", "[images]\n", "images = { roots = {} }\n", "[model]\ndefault = 'm'\n"])
def test_a_root_can_be_added_to_any_form_of_the_file(tmp_path: Path, text: str) -> None:
    settings = add_image_root(read(written(tmp_path, text)), "one", tmp_path / "one")
    assert settings.image_roots == {"one": tmp_path / "one"}


def test_a_project_is_the_one_named_then_the_environments_then_the_nearest_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, other, outer = (written(tmp_path / name, "") for name in ("named", "other", "outer"))
    inner = written(outer / "inner", "")
    deep = inner / "a" / "b"
    deep.mkdir(parents=True)
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.chdir(deep)
    assert find_project() == inner
    monkeypatch.chdir(outer)
    assert find_project() == outer
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(other))
    assert find_project() == other
    assert find_project(named) == named
    monkeypatch.chdir(tmp_path)
    assert find_project(Path("named")) == named


def test_a_project_that_is_not_there_is_said_and_not_replaced_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = written(tmp_path / "here", "")
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.chdir(here)
    with pytest.raises(ProjectNotFound, match=r"nowhere holds no resight\.toml; make a project there with"):
        find_project(tmp_path / "nowhere")
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(ProjectNotFound, match="nowhere holds no"):
        find_project()
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "")
    assert find_project() == here
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProjectNotFound, match="or any folder above; make a project with `resight init DIR`"):
        find_project()


def test_where_keypoints_lie_is_set_for_all_and_for_a_species(tmp_path: Path) -> None:
    found = read(written(tmp_path, '[local]\nforeground = "box"\n[local.cow]\n[local.nyala]\nforeground = "estimate"'))
    assert found.local == LocalRules(foreground="box")
    assert [found.local_rules(name).foreground for name in ("nyala", "cow", "lion")] == ["estimate", "box", "box"]
    assert read(written(tmp_path, "")).local.foreground == "estimate"
    with pytest.raises(SettingsError, match=r"local\.cow\.foreground is 'outline'; expected \"estimate\" or"):
        read(written(tmp_path, '[local.cow]\nforeground = "outline"\n'))
