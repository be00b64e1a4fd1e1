# SPDX-License-Identifier: Apache-2.0
"""Fibers in gdb: `source tools/gdb/fibers.py`, then `fibers` lists the living and `fibers bt` shows where each of them waits.

Works on a running process and on a core. A backtrace needs x86-64 or AArch64: it reads the registers that jump_fcontext saved.
"""
import time

import gdb
import gdb.unwinder

# What jump_fcontext saved of the caller, as offsets from the context; "sp" is the distance to the caller's stack pointer.
LAYOUTS = {
    "i386:x86-64": {"pc": ("rip", 0x38), "sp": ("rsp", 0x40),
                    "saved": {"r12": 0x08, "r13": 0x10, "r14": 0x18, "r15": 0x20, "rbx": 0x28, "rbp": 0x30}},
    "aarch64": {"pc": ("pc", 0xA0), "sp": ("sp", 0xB0),
                "saved": {f"x{19 + i}": 0x40 + 8 * i for i in range(12)}},
}


class FrameId:
    def __init__(self, sp, pc):
        self.sp, self.pc = sp, pc


class FiberUnwinder(gdb.unwinder.Unwinder):
    """Says, while a fiber is looked at, that the innermost frame was called by it: registers stay as they are, so cores work too."""

    def __init__(self):
        super().__init__("fibers")
        self.context = None
        self.innermost = None

    def __call__(self, pending):
        if self.context is None:
            return None
        layout = LAYOUTS[pending.architecture().name()]
        sp = pending.read_register(layout["sp"][0])
        pc = pending.read_register(layout["pc"][0])
        if (int(sp), int(pc)) != self.innermost:
            return None
        info = pending.create_unwind_info(FrameId(sp, pc))
        word = gdb.lookup_type("unsigned long")
        for name, offset in [layout["pc"], *layout["saved"].items()]:
            info.add_saved_register(name, gdb.Value(self.context + offset).cast(word.pointer()).dereference())
        info.add_saved_register(layout["sp"][0], gdb.Value(self.context + layout["sp"][1]).cast(word))
        return info


UNWINDER = FiberUnwinder()
gdb.unwinder.register_unwinder(None, UNWINDER, replace=True)


def text(value):
    return value.string(errors="replace") if int(value) else "-"


def living():
    fiber = gdb.parse_and_eval("fibers.live")
    while int(fiber):
        yield fiber
        fiber = fiber["next"]


def state_of(fiber, current):
    if int(fiber) == int(current):
        return "running"
    if not fiber["parked"] or fiber["resume"]["queued"]:
        return "ready"
    return text(fiber["waits_for"])


def backtrace(fiber, limit):
    frame = gdb.newest_frame()
    layout = LAYOUTS[frame.architecture().name()]
    UNWINDER.innermost = tuple(int(frame.read_register(layout[name][0])) for name in ("sp", "pc"))
    UNWINDER.context = int(fiber["ctx"])
    gdb.invalidate_cached_frames()
    try:
        frame = gdb.newest_frame().older()
        for depth in range(limit):
            if frame is None:
                break
            line = frame.find_sal()
            where = f"{line.symtab.filename}:{line.line}" if line.symtab else ""
            print(f"    #{depth} {frame.pc():#x} {frame.name() or '??'} {where}")
            frame = frame.older()
    except gdb.error as error:
        print(f"    {error}")
    finally:
        UNWINDER.context = None
        gdb.invalidate_cached_frames()


class Fibers(gdb.Command):
    """fibers [bt [LIMIT]]: label, age and what each fiber waits for; with bt its stack too."""

    def __init__(self):
        super().__init__("fibers", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        words = argument.split()
        limit = int(words[1]) if len(words) > 1 else 20
        current = gdb.parse_and_eval("fibers.current")
        # A core has no clock: ages are then counted up to the loop's last look at it.
        count = 0
        for fiber in living():
            now = int(fiber["loop"]["clock"]["mono_us"])
            if not is_core():
                now = max(now, time.monotonic_ns() // 1000)
            age = (now - int(fiber["born_us"])) / 1e6
            print(f"{int(fiber):#x} {text(fiber['label'])} {age:.3f}s {state_of(fiber, current)}"
                  f"{' cancelled' if fiber['cancelled'] else ''}")
            count += 1
            if words[:1] == ["bt"] and int(fiber) != int(current):
                backtrace(fiber, limit)
        print(f"{count} fibers, {int(gdb.parse_and_eval('fibers.n_hot + fibers.n_cold'))} stacks pooled")


def is_core():
    return "core" in gdb.execute("info target", to_string=True).split("\n", 2)[0].lower()


Fibers()
