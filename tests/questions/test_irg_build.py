"""Which split a scene comes into."""

from egohoi.questions.irg_build import Recipe
from egohoi.records import Scene


def test_frames_of_a_video_come_into_one_split():
    made = [Scene(id=f"s{k}", image="x", size=(4, 4), extra={"video": f"V{k % 40}"}) for k in range(200)]
    splits = [Recipe().split_of(scene) for scene in made]
    assert set(splits) == {"train", "val", "test"} and all(splits[k] == splits[k % 40] for k in range(200))
    alone = [Recipe(seed=1).split_of(Scene(id=f"s{k}", image="x", size=(4, 4))) for k in range(400)]
    assert 280 < alone.count("train") < 360 and alone == [Recipe(seed=1).split_of(Scene(id=f"s{k}", image="x", size=(4, 4))) for k in range(400)]
