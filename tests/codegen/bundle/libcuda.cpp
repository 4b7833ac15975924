// Stands for NVIDIA's driver: writes down what it is asked. The types are those of cuda.h.
#include <cstdint>
#include <cstdio>
#include <cstring>

static char said[4096];
static void* current = nullptr;
extern "C" {
int parameters = 0;  // how many 64-bit parameters the next launch has; the real driver knows its kernels
int launch_status = 0;
const char* calls() { return said; }

#define SAY(...) snprintf(said + strlen(said), sizeof said - strlen(said), __VA_ARGS__)

int cuCtxGetCurrent(void** context) { *context = current; return 0; }
int cuCtxSetCurrent(void* context) { current = context; SAY("set %p\n", context); return 0; }
int cuDevicePrimaryCtxRetain(void** context, int device) {
  *context = (void*)0x7fff00000001;
  SAY("retain %d\n", device);
  return 0;
}
int cuDeviceGet(int* device, int ordinal) { *device = ordinal + 100; return 0; }
int cuDeviceGetAttribute(int* value, int attribute, int device) {
  SAY("attribute %d of %d\n", attribute, device);
  *value = 232448;
  return 0;
}
int cuModuleLoadData(void** module, const void* image) {
  SAY("image %.4s\n", (const char*)image);
  *module = (void*)0x7fff00000002;
  return 0;
}
int cuModuleGetFunction(void** function, void* module, const char* name) {
  SAY("function %s of %p\n", name, module);
  *function = (void*)0x7fff00000003;
  return 0;
}
int cuFuncSetAttribute(void* function, int attribute, int value) {
  SAY("%p: attribute %d = %d\n", function, attribute, value);
  return 0;
}
int cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void* stream, void** values, void** extra) {
  SAY("launch %p: %u %u %u, %u %u %u, %u bytes, stream %p, extra %p:", function, gx, gy, gz, bx, by, bz, shared, stream,
      (void*)extra);
  for (int i = 0; i < parameters; ++i) SAY(" %lld", (long long)*(int64_t*)values[i]);
  SAY("\n");
  return launch_status;
}
int cuGetErrorString(int status, const char** text) {
  *text = status == 700 ? "an illegal memory access was encountered" : nullptr;
  return 0;
}
}
