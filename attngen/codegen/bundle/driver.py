"""NVIDIA's driver, as far as launching a finished kernel needs it: through ctypes, without a compiler."""

from __future__ import annotations

import ctypes
from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from attngen.errors import BundleError

if TYPE_CHECKING:
    import torch

LIBRARY = "libcuda.so.1"
FREE_SHARED = 48 * 1024
"""Bytes of shared memory that a kernel gets without asking for them."""
MAX_DYNAMIC_SHARED = 8
"""CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES"""
SHARED_PER_BLOCK = 97
"""CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN"""

Grid = tuple[int, int, int]


class Driver(Protocol):
    """What a launch asks of a driver. `device_type`: torch's type of the devices that it knows."""

    @property
    def device_type(self) -> str: ...

    def capability(self, device: torch.device) -> tuple[int, int]:
        """The compute capability of a device."""
        ...

    def on(self, device: torch.device) -> AbstractContextManager[Any]:
        """Makes the device the current one of the thread for a while."""
        ...

    def load(self, image: bytes, symbol: str, shared: int, device: torch.device) -> int:
        """A kernel from its machine code, that may take so much dynamic shared memory. The device is current."""
        ...

    def launch(self, kernel: int, grid: Grid, threads: int, shared: int, device: torch.device, parameters: Any) -> None:
        """Starts a kernel on torch's current stream of the device. `parameters`: an array with the address of each
        value. The device is current."""
        ...


class Cuda:
    """The driver of this machine. Raises `BundleError` where there is none."""

    device_type = "cuda"

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(LIBRARY)
        except OSError:
            raise BundleError(
                f"{LIBRARY} cannot be loaded: kernels of a bundle run on an NVIDIA GPU with its driver"
            ) from None
        self._launch = self._library.cuLaunchKernel
        self._launch.argtypes = [ctypes.c_void_p, *[ctypes.c_uint] * 7, *[ctypes.c_void_p] * 3]

    def capability(self, device: torch.device) -> tuple[int, int]:
        import torch

        if torch.version.hip is not None:
            raise BundleError("this torch is built for AMD's GPUs; a bundle holds machine code for NVIDIA's")
        return torch.cuda.get_device_capability(device)

    def on(self, device: torch.device) -> AbstractContextManager[Any]:
        import torch

        return torch.cuda.device(device)

    def load(self, image: bytes, symbol: str, shared: int, device: torch.device) -> int:
        self._need_context(device)
        most = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(most), SHARED_PER_BLOCK, self._ordinal(device))
        if shared > most.value:
            raise BundleError(
                f"the kernel takes {shared} bytes of shared memory and a block on this device has {most.value}; "
                "build the bundle for the architecture of this device"
            )
        module, kernel = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuModuleLoadData", ctypes.byref(module), image)
        self._call("cuModuleGetFunction", ctypes.byref(kernel), module, symbol.encode())
        if shared > FREE_SHARED:
            self._call("cuFuncSetAttribute", kernel, MAX_DYNAMIC_SHARED, shared)
        assert kernel.value is not None
        return kernel.value

    def launch(self, kernel: int, grid: Grid, threads: int, shared: int, device: torch.device, parameters: Any) -> None:
        import torch

        self._need_context(device)
        stream = torch.cuda.current_stream(device).cuda_stream
        status = self._launch(kernel, *grid, threads, 1, 1, shared, stream, parameters, None)
        if status:
            self._fail("cuLaunchKernel", status)

    def _need_context(self, device: torch.device) -> None:
        """A thread that has not used the device yet has no context, whatever torch's current device is."""
        current = ctypes.c_void_p()
        self._call("cuCtxGetCurrent", ctypes.byref(current))
        if not current.value:
            self._call("cuDevicePrimaryCtxRetain", ctypes.byref(current), self._ordinal(device))
            self._call("cuCtxSetCurrent", current)

    def _ordinal(self, device: torch.device) -> Any:
        found = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(found), device.index or 0)
        return found

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            self._fail(name, status)

    def _fail(self, name: str, status: int) -> None:
        said = ctypes.c_char_p()
        self._library.cuGetErrorString(status, ctypes.byref(said))
        raise BundleError(f"{name} failed: {(said.value or b'unknown error').decode()} (CUDA error {status})")


@cache
def cuda() -> Cuda:
    """The driver of this machine."""
    return Cuda()
