import pytest
import torch

from egohoi.models.nano import given, propose
from egohoi.models.nano.detector import Detector
from egohoi.models.nano.propose import HANDS, OBJECTS


@pytest.fixture(scope="module")
def seen():
    torch.manual_seed(0)
    net = Detector(3).eval()
    with torch.no_grad():
        net.heat[-1].bias.fill_(-1.0)
        maps = net(torch.rand(1, 3, 128, 160) * 255)
    return net, maps, propose.propose(net, maps, 160, 128)


def test_a_box_where_nothing_was_proposed_becomes_the_last_proposal(seen):
    net, maps, proposals = seen
    box = torch.tensor([3.0, 5.0, 21.0, 90.0])
    assert not given.known(proposals, box)
    found = given.join(proposals, given.at(net, maps, box, 160, 128))
    kept = min(len(proposals), HANDS + OBJECTS - 1)
    assert len(found) == kept + 1 and found.boxes[-1].tolist() == box.tolist()
    assert torch.equal(found.boxes[:-1], proposals.boxes[:kept]) and torch.equal(found.nouns[:-1], proposals.nouns[:kept])


def test_a_box_that_means_a_proposal_is_known(seen):
    net, maps, proposals = seen
    box = proposals.boxes[0] + torch.tensor([0.5, 0.5, 0.5, 0.5])
    assert given.known(proposals, box)


def test_the_likelier_kind_is_read_at_the_surest_cell_of_the_middle(seen):
    net, maps, _ = seen
    heat = torch.full_like(maps.heat, -6.0)
    heat[0, 1, 7, 9], heat[0, 3, 12, 9] = 2.0, 4.0  # a right hand in the middle of the box, a surer object outside of it
    one = given.at(net, given.replace(maps, heat=heat), torch.tensor([56.0, 40.0, 96.0, 80.0]), 160, 128)
    assert one.kind.tolist() == [0] and one.cells.tolist() == [[9, 7]] and int(one.heat[0].argmax()) == 1


def test_a_box_at_the_edge_or_outside_of_the_maps_is_read_at_the_nearest_cell(seen):
    net, maps, _ = seen
    one = given.at(net, maps, torch.tensor([155.0, 120.0, 400.0, 300.0]), 160, 128)
    assert 0 <= int(one.cells[0, 0]) < 20 and 0 <= int(one.cells[0, 1]) < 16
