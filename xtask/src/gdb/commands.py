"""Commands for gdb, to look at a PV guest from the machine's side.

pv-regs             the mode the CPU is in, and its registers
pv-walk ADDRESS     the entries of the page tables that translate an address
pv-break FUNCTION   a hardware breakpoint at each function of that path, such as hello::main
pv-domains          all domains
pv-ports [DOMAIN]   the ports of a domain, or of all: what they are connected to, pending, masked
pv-grants [DOMAIN]  the used entries of a domain's grant table, or of all domains' tables

The last three read the hypervisor's own structures, by the names that its DWARF has for them, and what
guests share with it at its machine address: whoever runs, no address has to be known.
"""
import re
import gdb

M2P = 0xFFFF800000000000
FLAGS = ["P", "RW", "US", "PWT", "PCD", "A", "D", "PS", "G"]


def physical(address, count=1):
    """Words of 64 bits at a machine address."""
    text = gdb.execute("monitor xp /%dgx 0x%x" % (count, address), to_string=True)
    return [int(word, 16) for word in re.findall(r"0x([0-9a-f]{16})", text)]


def register(name):
    """A register of the CPU that gdb looks at."""
    text = gdb.execute("monitor info registers", to_string=True)
    return int(re.search(r"\b%s=([0-9a-f]+)" % name, text).group(1), 16)


def memory(address, size):
    """A number in memory that is mapped here."""
    return int.from_bytes(bytes(gdb.selected_inferior().read_memory(address, size)), "little")


def value(text):
    """What an expression is."""
    return int(gdb.parse_and_eval(text)) & 0xFFFFFFFFFFFFFFFF


class Command(gdb.Command):
    """A command whose words are expressions."""

    def __init__(self, name):
        super().__init__(name, gdb.COMMAND_DATA)

    def invoke(self, words, _tty):
        try:
            self.run([value(word) for word in gdb.string_to_argv(words)])
        except (IndexError, AttributeError, ValueError, gdb.error) as error:
            print("this can't be told here: %s" % error)


class Regs(Command):
    def run(self, _words):
        ring = value("$cs") & 3
        rip = value("$rip")
        who = "the hypervisor" if ring == 0 else "a guest"
        print("ring %d, %s, CR3 0x%x" % (ring, who, register("CR3")))
        gdb.execute("info symbol 0x%x" % rip)
        gdb.execute("info registers rip rsp eflags rax rbx rcx rdx rsi rdi rbp r8 r9 r10 r11 r12 r13 r14 r15 cs ss fs_base gs_base")


class Break(Command):
    def invoke(self, words, _tty):
        # What has no DWARF has a hash behind its path, which nobody types.
        path = words.strip()
        found = gdb.execute("info functions -q %s" % re.escape(path), to_string=True)
        places = re.findall(r"^(0x[0-9a-f]+) +(.*?)(?:::h[0-9a-f]{16})?$", found, re.MULTILINE)
        places = [place for place, name in places if name == path]
        for place in ["*" + place for place in places] or [path]:
            gdb.execute("hbreak " + place)


class Walk(Command):
    def run(self, words):
        address = words[0]
        table = register("CR3") & ~0xFFF
        for level in (4, 3, 2, 1):
            index = address >> (12 + 9 * (level - 1)) & 0x1FF
            entry = physical(table + 8 * index)[0]
            names = [name for bit, name in enumerate(FLAGS) if entry >> bit & 1]
            if entry >> 63:
                names.append("NX")
            frame = entry >> 12 & 0xFFFFFFFFFF
            print("L%d[%3d] = 0x%016x: MFN 0x%x, %s" % (level, index, entry, frame, " ".join(names) or "empty"))
            if not entry & 1:
                return
            if level == 1 or entry >> 7 & 1:
                break
            table = frame << 12
        try:
            print("the guest's number of that frame: PFN 0x%x" % memory(M2P + 8 * frame, 8))
        except gdb.MemoryError:
            print("the machine-to-physical table is not mapped here")


# Fields that hold nothing but what is inside: of locks, cells, pages, vectors.
WRAPPERS = ("data", "value", "__0", "inner", "v", "pointer", "shared", "buffer")


def inside(it, wanted=None):
    """What is in a value's wrappers: the field that is wanted, or what is no wrapper."""
    while True:
        if it.type.code == gdb.TYPE_CODE_PTR:
            it = it.dereference()
        fields = []
        if it.type.code in (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION):
            fields = [field.name for field in it.type.fields()]
        if wanted is not None and wanted in fields:
            return it[wanted]
        wrappers = [name for name in fields if name in WRAPPERS]
        if not wrappers:
            if wanted:
                raise gdb.error("the hypervisor has no `%s` in %s" % (wanted, it.type))
            return it
        it = it[wrappers[0]]


def number(it, name):
    """A number in a field, in whatever it is wrapped."""
    return int(inside(inside(it, name)))


def is_made(once):
    """Whether a value that is made when it is first needed is there."""
    return number(once, "status") == 2


def domains(words):
    """The domain of that number, or all."""
    found = gdb.lookup_static_symbols("paravane::x86::guest::SYSTEM")
    if not found:
        raise gdb.error("the hypervisor's file has no DWARF: it has where `run --gdb` built it")
    system = found[0].value()
    if not is_made(system):
        raise gdb.error("there are no domains yet")
    groups = inside(inside(system, "domains"), "groups")
    low, high = groups.type.range()
    domains = []
    for group in (groups[at] for at in range(low, high + 1)):
        vector = inside(group, "len")
        members = inside(inside(group, "buffer"))
        domains += [members[at] for at in range(int(vector))]
    chosen = {number(domain, "id"): domain for domain in domains}
    if words:
        if words[0] not in chosen:
            raise gdb.error("there is no domain %d" % words[0])
        chosen = {words[0]: chosen[words[0]]}
    return sorted(chosen.items())


class Domains(Command):
    def run(self, words):
        for who, domain in domains(words):
            life = ("alive", "dying", "dead")[number(domain, "life")]
            vcpus = inside(domain, "vcpus")
            made = sum(is_made(vcpus[at]) for at in range(number(domain, "max_vcpus")))
            print("domain %d: %s, %d vCPUs, paused %d times, shared page MFN 0x%x" % (
                who, life, made, number(domain, "pauses"), number(domain, "shared_info")))


def connection(slot):
    """What a port is connected to; None if it is free."""
    channel = inside(inside(slot, "channel"))
    # Of an enumeration, the last field is the variant that it is.
    kind = channel.type.fields()[-1].name
    if kind == "Closed":
        return None
    if kind == "Interdomain":
        peer = inside(channel[kind], "port")
        domain = inside(inside(channel[kind], "domain"), "id")
        return "interdomain, to port %d of domain %d" % (int(inside(peer)), int(inside(domain)))
    names = {"Unbound": "unbound, for domain %d", "Virq": "VIRQ %d", "Pirq": "PIRQ %d"}
    if kind in names:
        return names[kind] % int(inside(channel[kind]["__0"]))
    return kind.upper() if kind == "Ipi" else kind.lower()


class Ports(Command):
    def run(self, words):
        for who, domain in domains(words):
            shared = number(domain, "shared_info") << 12
            pending, masked = physical(shared + 0x800, 64), physical(shared + 0xA00, 64)
            buckets = inside(inside(domain, "ports"), "buckets")
            low, high = buckets.type.range()
            for bucket in range(low, high + 1):
                if not is_made(buckets[bucket]):
                    continue
                slots = inside(buckets[bucket], "slots")
                for bit in range(64):
                    about = [connection(slots[bit])]
                    if about[0] is None:
                        continue
                    about.append("vCPU %d" % number(slots[bit], "vcpu"))
                    about += [name for name, bits in (("pending", pending), ("masked", masked)) if bits[bucket] >> bit & 1]
                    print("domain %d, port %d: %s" % (who, 64 * bucket + bit, ", ".join(about)))
            vcpus = inside(domain, "vcpus")
            for vcpu in range(number(domain, "max_vcpus")):
                if is_made(vcpus[vcpu]):
                    upcall = physical(shared + 64 * vcpu)[0]
                    bits = ("pending" if upcall & 0xFF else "not pending", "masked" if upcall >> 8 & 0xFF else "not masked")
                    print("domain %d, vCPU %d: upcall %s, events %s" % ((who, vcpu) + bits))


class Grants(Command):
    def run(self, words):
        for who, domain in domains(words):
            frames, used = inside(inside(domain, "grants"), "frames"), 0
            low, high = frames.type.range()
            for at in range(low, high + 1):
                # The frame's number and one.
                frame = int(inside(frames[at]))
                for slot, entry in enumerate(physical((frame - 1) << 12, 512) if frame else []):
                    if entry & 3:
                        used += 1
                        uses = [name for bit, name in ((2, "read-only"), (3, "read"), (4, "written")) if entry >> bit & 1]
                        print("domain %d, entry %d: to domain %d, MFN 0x%x%s" % (
                            who, 512 * at + slot, entry >> 16 & 0xFFFF, entry >> 32, "".join(", " + use for use in uses)))
            print("domain %d: %d entries are used" % (who, used))


Regs("pv-regs")
Break("pv-break")
Walk("pv-walk")
Domains("pv-domains")
Ports("pv-ports")
Grants("pv-grants")
