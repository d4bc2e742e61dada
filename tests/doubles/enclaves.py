"""An operating system that does what a test tells it: operands of ENCLS in memory, and enclaves built from them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from sgxkit.emulator import fuses
from sgxkit.emulator.einit import einit
from sgxkit.emulator.encls import eadd, ecreate, eextend
from sgxkit.emulator.entry import eenter
from sgxkit.emulator.epc import Epc
from sgxkit.emulator.memory import SparseMemory
from sgxkit.emulator.processor import LogicalProcessor, Processor
from sgxkit.isa.attributes import AttributeFlags, Attributes
from sgxkit.isa.einittoken import EinitToken
from sgxkit.isa.page import PAGE_SIZE, PageFlags, PageInfo, PageType, SecInfo
from sgxkit.isa.secs import Secs
from sgxkit.isa.sigstruct import Sigstruct, quotients
from sgxkit.isa.status import Status
from sgxkit.isa.tcs import Tcs

EPC_BASE = 0x70_0000_0000
BASE, SIZE = 0x10_0000, 0x1_0000

# Linear addresses of the pages of `Os.built`.
TCS, SSA, DATA, CODE = BASE, BASE + 0x1000, BASE + 0x3000, BASE + 0x4000
FRESH = BASE + 0x8000
"""Where no page is yet."""

INFO, SECINFO, SOURCE, SIGSTRUCT, TOKEN = 0x1000, 0x2000, 0x3000, 0x4000, 0x5000
"""Where operands stand in ordinary memory."""

FLAGS = AttributeFlags.MODE64BIT | AttributeFlags.KSS
SECS = Secs(size=SIZE, baseaddr=BASE, ssaframesize=1, miscselect=0, attributes=Attributes(FLAGS, 3))
REG_RW = SecInfo(PageFlags.RW, PageType.REG)
REG_RX = SecInfo(PageFlags.RX, PageType.REG)
TCS_PAGE = SecInfo(PageFlags(0), PageType.TCS)
THREAD = Tcs(ossa=SSA - BASE, nssa=2, oentry=CODE - BASE, ofsbase=DATA - BASE, ogsbase=DATA - BASE)
AEP, RSP, RBP = 0x7F00_0000_1000, 0x7F00_0000_2000, 0x7F00_0000_3000


@cache
def signing_key(number: int = 0) -> rsa.RSAPrivateKey:
    """An enclave author's key; each number is another author."""
    return rsa.generate_private_key(public_exponent=3, key_size=3072)


def signed(sigstruct: Sigstruct, author: int = 0) -> Sigstruct:
    """`sigstruct` with the key, the signature and the quotients of an author."""
    key = signing_key(author)
    modulus = key.public_key().public_numbers().n.to_bytes(384, "little")
    signature = key.sign(sigstruct.signed_bytes, padding.PKCS1v15(), hashes.SHA256())[::-1]
    q1, q2 = quotients(signature, modulus)
    return replace(sigstruct, modulus=modulus, signature=signature, q1=q1, q2=q2)


def sigstruct_for(enclavehash: bytes, *, author: int = 0, **fields: object) -> Sigstruct:
    """A certificate for an enclave that has the ATTRIBUTES of `SECS`, with other fields as given."""
    unsigned = Sigstruct(
        vendor=0,
        date=0x20240102,
        swdefined=0,
        modulus=bytes(384),
        signature=bytes(384),
        miscselect=0,
        miscmask=0xFFFF_FFFF,
        cet_attributes=0,
        cet_attributes_mask=0xFF,
        isvfamilyid=bytes([1] * 16),
        attributes=Attributes(FLAGS, 3),
        attributemask=Attributes((1 << 64) - 1, (1 << 64) - 1),
        enclavehash=enclavehash,
        isvextprodid=bytes([2] * 16),
        isvprodid=3,
        isvsvn=4,
        q1=bytes(384),
        q2=bytes(384),
    )
    return signed(replace(unsigned, **fields), author)  # type: ignore[arg-type]


def new_processor(**changes: object) -> Processor:
    """An Ice Lake that launches what author 0 signs; `changes` are of its fuses."""
    born = replace(fuses.Fuses.from_seed(b"test"), **changes)  # type: ignore[arg-type]
    processor = Processor(born, Epc(EPC_BASE, 64 * PAGE_SIZE), report_keyid=bytes(range(32)))
    if born.profile.flexible_launch_control:
        processor.write_launch_key_hash(sigstruct_for(bytes(32)).mrsigner)
    return processor


@dataclass
class Os:
    """Ordinary memory, free EPC pages, and the leaf functions with their operands put there."""

    processor: Processor = field(default_factory=new_processor)
    memory: SparseMemory = field(default_factory=SparseMemory)
    pages: dict[int, int] = field(default_factory=dict)
    secs: int = 0
    taken: int = 0

    def take(self) -> int:
        self.taken += 1
        return EPC_BASE + (self.taken - 1) * PAGE_SIZE

    def put(self, info: PageInfo, secinfo: bytes | SecInfo, source: bytes = bytes(PAGE_SIZE)) -> None:
        """Write the operands of ECREATE, EADD, EAUG."""
        self.memory.write(INFO, info.to_bytes())
        self.memory.write(SECINFO, secinfo if isinstance(secinfo, bytes) else secinfo.to_bytes())
        self.memory.write(SOURCE, source)

    def create(self, secs: Secs = SECS) -> int:
        self.put(PageInfo(0, SOURCE, SECINFO, 0), SecInfo(PageFlags(0), PageType.SECS), secs.to_bytes())
        self.secs = self.take()
        ecreate(self.processor, self.memory, INFO, self.secs)
        return self.secs

    def add(
        self, linear: int, secinfo: SecInfo = REG_RW, data: bytes = bytes(PAGE_SIZE), *, measure: bool = True
    ) -> int:
        page = self.take()
        self.put(PageInfo(linear, SOURCE, SECINFO, self.secs), secinfo, data)
        eadd(self.processor, self.memory, INFO, page)
        if measure:
            for chunk in range(16):
                eextend(self.processor, self.secs, page + chunk * 256)
        self.pages[linear] = page
        return page

    def fill(self) -> None:
        """A TCS with two SSA frames, a page to write and a page to execute."""
        self.add(TCS, TCS_PAGE, THREAD.to_bytes())
        self.add(SSA)
        self.add(SSA + PAGE_SIZE)
        self.add(DATA, data=bytes([7]) * PAGE_SIZE)
        self.add(CODE, REG_RX, bytes([0x90]) * PAGE_SIZE)

    @property
    def measurement(self) -> bytes:
        return self.processor.enclaves[self.secs].measurement.copy().digest()

    def init(self, sigstruct: Sigstruct | bytes, token: EinitToken | bytes = EinitToken(valid=False)) -> Status:  # noqa: B008
        self.memory.write(SIGSTRUCT, sigstruct if isinstance(sigstruct, bytes) else sigstruct.to_bytes())
        self.memory.write(TOKEN, token if isinstance(token, bytes) else token.to_bytes())
        return einit(self.processor, self.memory, SIGSTRUCT, self.secs, TOKEN)

    def thread(self) -> LogicalProcessor:
        return LogicalProcessor(self.processor, self.pages)

    def inside(self) -> LogicalProcessor:
        """A thread that has entered."""
        thread = self.thread()
        eenter(thread, TCS, AEP, rsp=RSP, rbp=RBP)
        return thread


def created(**changes: object) -> Os:
    """An enclave after ECREATE, on a processor with `changes` of its fuses."""
    system = Os(new_processor(**changes))
    system.create()
    return system


def built(**changes: object) -> Os:
    """An enclave with all its pages, before EINIT."""
    system = created(**changes)
    system.fill()
    return system


def initialized(**changes: object) -> Os:
    """An enclave that can be entered."""
    system = built(**changes)
    assert system.init(sigstruct_for(system.measurement)) is Status.SGX_SUCCESS
    return system
