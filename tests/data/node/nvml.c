/* A stand-in for libnvidia-ml.so: what the samplers call, with answers that can be told apart. Structures are those of nvml.h. */
#include <string.h>

enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, GPU_LOST = 15 };
typedef struct { unsigned index; } *Device;
static struct { unsigned index; } gpus[4] = {{0}, {1}, {2}, {3}};

typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } Memory;
typedef struct { unsigned long long reference, violation; } Violation;
typedef union { double d; unsigned u; unsigned long ul; unsigned long long ull; long long sll; } Value;
typedef struct { unsigned field, scope; long long stamp, latency; unsigned type; int result; Value value; } Field;

int nvmlInit_v2(void) { return OK; }
int nvmlShutdown(void) { return OK; }
int nvmlSystemGetDriverVersion(char *text, unsigned length) { strncpy(text, "550.54.15", length); return OK; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 4; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
  if (index == 3) return NO_PERMISSION;
  *device = &gpus[index];
  return OK;
}
int nvmlDeviceGetIndex(Device d, unsigned *index) { *index = d->index; return OK; }
/* the bus counts the other way round than the device files */
int nvmlDeviceGetMinorNumber(Device d, unsigned *minor) { *minor = 2 - d->index; return OK; }
int nvmlDeviceGetUUID(Device d, char *text, unsigned length) {
  strncpy(text, "GPU-0", length);
  text[4] += (char)d->index;
  return OK;
}
int nvmlDeviceGetName(Device d, char *text, unsigned length) { strncpy(text, "NVIDIA Test 80GB", length); return OK; }
int nvmlDeviceGetUtilizationRates(Device d, Utilization *u) { u->gpu = 90 + d->index; u->memory = 40; return OK; }
int nvmlDeviceGetMemoryInfo_v2(Device d, Memory *m) { m->total = 85899345920ull; m->used = 1024; m->free = m->total - m->used; return OK; }
int nvmlDeviceGetPowerUsage(Device d, unsigned *mw) { *mw = 350500; return OK; }
int nvmlDeviceGetEnforcedPowerLimit(Device d, unsigned *mw) { *mw = 700000; return OK; }
int nvmlDeviceGetTotalEnergyConsumption(Device d, unsigned long long *mj) { *mj = 123456; return OK; }
int nvmlDeviceGetClockInfo(Device d, int type, unsigned *mhz) { *mhz = type == 1 ? 1980 : 2619; return OK; }
int nvmlDeviceGetCurrentClocksThrottleReasons(Device d, unsigned long long *reasons) { *reasons = 0x4 | 0x40; return OK; }
int nvmlDeviceGetViolationStatus(Device d, int policy, Violation *v) {
  if (policy != 0) return NOT_SUPPORTED;
  v->reference = 1; v->violation = 2500000000ull;
  return OK;
}
int nvmlDeviceGetTemperature(Device d, int sensor, unsigned *degrees) {
  if (d->index == 2) return GPU_LOST;
  *degrees = 61;
  return OK;
}
int nvmlDeviceGetTemperatureThreshold(Device d, int which, unsigned *degrees) { *degrees = 90; return OK; }
int nvmlDeviceGetTotalEccErrors(Device d, int kind, int counter, unsigned long long *count) { *count = kind == 0 ? 5 : 0; return OK; }
int nvmlDeviceGetCurrPcieLinkGeneration(Device d, unsigned *generation) { *generation = 5; return OK; }
int nvmlDeviceGetCurrPcieLinkWidth(Device d, unsigned *lanes) { *lanes = 16; return OK; }
int nvmlDeviceGetFieldValues(Device d, int count, Field *fields) {
  for (int i = 0; i < count; i++) {
    fields[i].type = 3; /* unsigned long long */
    /* the bus's 1 has links: each counts by itself, and a link that is not there is no argument */
    int by_link = fields[i].field == 138 || fields[i].field == 139;
    fields[i].result = !by_link ? OK : d->index != 1 ? NOT_SUPPORTED : fields[i].scope < 18 ? OK : INVALID;
    fields[i].value.ull = by_link ? fields[i].field + fields[i].scope * 1000 : fields[i].field == 91 ? 18 : fields[i].field;
  }
  return OK;
}
