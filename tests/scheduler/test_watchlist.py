from __future__ import annotations

from fleetops.model import NS_PER_S, Operation
from fleetops.policy.settings import Confirm
from fleetops.scheduler.watchlist import Look, Watchlist

CONFIRM = Confirm.model_validate({"enabled": True, "limit": "100s", "every": "10s", "operations": ["reboot"]})
LOOK = Look(device=3, step=7, sent_ns=1000 * NS_PER_S)


def watching() -> Watchlist:
    watchlist = Watchlist(CONFIRM)
    watchlist.watch(LOOK, 1050 * NS_PER_S)
    return watchlist


def test_only_the_operations_of_the_policy_are_confirmed_and_only_where_it_is_enabled() -> None:
    assert Watchlist(CONFIRM).wants(Operation.REBOOT)
    assert not Watchlist(CONFIRM).wants(Operation.SYNC)
    assert not Watchlist(Confirm()).wants(Operation.REBOOT)


def test_a_device_is_looked_for_once_it_has_settled() -> None:
    watchlist = watching()
    assert watchlist.due(1049 * NS_PER_S) == []
    assert watchlist.due(1050 * NS_PER_S) == [LOOK]
    assert watchlist.next_look_ns is None
    assert len(watchlist) == 1


def test_a_device_that_is_up_and_changed_after_the_send_has_come_back() -> None:
    watchlist = watching()
    watchlist.due(1050 * NS_PER_S)
    assert watchlist.seen(LOOK, up=True, changed_ns=1001 * NS_PER_S, now_ns=1051 * NS_PER_S) is True
    assert len(watchlist) == 0


def test_a_device_that_is_down_or_did_not_change_is_looked_for_again_until_the_limit() -> None:
    watchlist = watching()
    for up, changed_ns in ((False, 2000 * NS_PER_S), (True, 999 * NS_PER_S), (True, None)):
        (look,) = watchlist.due(1060 * NS_PER_S)
        assert watchlist.seen(look, up=up, changed_ns=changed_ns, now_ns=1040 * NS_PER_S) is None
    (look,) = watchlist.due(1060 * NS_PER_S)
    assert watchlist.seen(look, up=False, changed_ns=None, now_ns=1145 * NS_PER_S) is None
    assert watchlist.next_look_ns == 1150 * NS_PER_S
    (look,) = watchlist.due(1150 * NS_PER_S)
    assert watchlist.seen(look, up=False, changed_ns=None, now_ns=1150 * NS_PER_S) is False
    assert len(watchlist) == 0


def test_that_the_inventory_cannot_be_read_says_nothing_of_a_device_for_as_long_again() -> None:
    watchlist = watching()
    for now_s in (1050, 1149, 1160, 1249):
        (look,) = watchlist.due(now_s * NS_PER_S)
        assert watchlist.seen(look, up=None, changed_ns=None, now_ns=now_s * NS_PER_S) is None
    assert watchlist.next_look_ns == 1250 * NS_PER_S
    (look,) = watchlist.due(1250 * NS_PER_S)
    assert watchlist.seen(look, up=True, changed_ns=1001 * NS_PER_S, now_ns=1250 * NS_PER_S) is True


def test_a_device_is_not_looked_for_any_longer_where_the_inventory_cannot_be_read_at_all() -> None:
    watchlist = watching()
    watchlist.due(1050 * NS_PER_S)
    assert watchlist.seen(LOOK, up=None, changed_ns=None, now_ns=1250 * NS_PER_S) is False


def seen_after(sent_ns: int, changed_ns: int, watchlist: Watchlist | None = None) -> bool | None:
    watchlist = Watchlist(CONFIRM) if watchlist is None else watchlist
    look = Look(device=3, step=7, sent_ns=sent_ns)
    watchlist.watch(look, sent_ns)
    watchlist.due(sent_ns)
    return watchlist.seen(look, up=True, changed_ns=changed_ns, now_ns=sent_ns + 1)


def test_a_time_in_whole_seconds_may_lie_anywhere_in_its_second() -> None:
    half_past_ns = 1000 * NS_PER_S + NS_PER_S // 2
    assert seen_after(half_past_ns, 1000 * NS_PER_S) is True
    assert seen_after(half_past_ns, 999 * NS_PER_S) is None
    assert seen_after(half_past_ns, half_past_ns - 1) is None
    assert seen_after(half_past_ns, half_past_ns + 1) is True


def test_the_change_by_which_a_device_came_back_once_does_not_confirm_its_next_step() -> None:
    watchlist = Watchlist(CONFIRM)
    assert seen_after(1000 * NS_PER_S, 1002 * NS_PER_S, watchlist) is True
    assert seen_after(1002 * NS_PER_S + 1, 1002 * NS_PER_S, watchlist) is None
    assert seen_after(1002 * NS_PER_S + 1, 1003 * NS_PER_S, watchlist) is True
