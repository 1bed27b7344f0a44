import numpy as np
import pytest

from egohoi.scenes.synthetic import meshes, objects, textures


def outward(mesh) -> float:
    """Signed volume: positive when the faces look outwards."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]].astype(float) for k in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


@pytest.mark.parametrize("mesh, volume", [
    (meshes.box((0.2, 0.1, 0.3)), 0.006),
    (meshes.lathe([(0, 0), (0.1, 0), (0.1, 0.2), (0, 0.2)], 64), np.pi * 0.01 * 0.2),
    (meshes.sphere((0.1, 0.1, 0.1), 40, 60), 4 / 3 * np.pi * 1e-3),
    (meshes.tube([(0, 0, 0), (0.1, 0, 0), (0.2, 0, 0)], 0.02, 64), np.pi * 4e-4 * 0.2),
])
def test_primitives_enclose_their_volume(mesh, volume):
    assert outward(mesh) == pytest.approx(volume, rel=0.02)


def test_bevelled_box_keeps_its_extent():
    mesh = meshes.box((0.2, 0.1, 0.04), 0.005)
    assert np.ptp(mesh.vertices, axis=0) == pytest.approx([0.2, 0.1, 0.04], abs=1e-6)
    assert outward(mesh) == pytest.approx(0.2 * 0.1 * 0.04, rel=0.03)


def test_surface_points_lie_on_the_surface():
    points, normals = meshes.surface_points(meshes.box((2, 2, 2)), 500, np.random.default_rng(0))
    assert np.abs(points).max(1) == pytest.approx(1.0)
    assert np.abs(normals).sum(1) == pytest.approx(1.0)
    spread = [(normals[:, k] * s > 0.5).sum() for k in range(3) for s in (-1, 1)]
    assert min(spread) > 50


def test_rotation_is_proper():
    turn = meshes.rotation((1, 2, 3), 0.7)
    assert np.linalg.det(turn) == pytest.approx(1)
    assert turn @ turn.T == pytest.approx(np.eye(3))


def draw(rng, *kinds):
    return f"{kinds[0]}0", 0.3


@pytest.mark.parametrize("name", list(objects.NOUNS))
def test_every_noun_builds(name):
    model = objects.build(name, 3, draw)
    assert model.name == name and model.sites
    assert all(i < len(model.sites) and j < len(model.sites) for i, j in model.pairs)
    assert 0.01 < model.size.max() < 1.8
    for mesh, _ in model.parts:
        assert np.isfinite(mesh.vertices).all() and np.isfinite(mesh.normals).all()
        assert mesh.faces.max() < len(mesh.vertices)
    for site in model.sites:
        assert np.linalg.norm(site.approach) == pytest.approx(1, abs=1e-3)
        if site.kind == "wrap":
            assert np.linalg.norm(site.axis) == pytest.approx(1, abs=0.02)
        near = np.linalg.norm(model.points - site.origin, axis=1).min()
        assert near < 0.06, "a grip site must lie at the object"


def test_same_variant_same_object_other_variant_other_object():
    a, b, c = (objects.build("mug", v, draw) for v in (1, 1, 2))
    assert np.array_equal(a.points, b.points) and not np.array_equal(a.points, c.points)


def test_textures_are_the_same_for_the_same_seed():
    rng = [np.random.default_rng(4) for _ in range(2)]
    assert np.array_equal(textures.wood(rng[0], 4), textures.wood(rng[1], 4))
    assert textures.noise(np.random.default_rng(1)).std() == pytest.approx(1)
