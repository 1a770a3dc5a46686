/* Linked into the interpreter that counts (layer/train.py): what -fprofile-generate has counted is
 * written to $LAYER_PROFILE.PID at the end of the process. The compiler's own runtime does this
 * elsewhere; `ziglang` has none.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

extern const char __start___llvm_prf_data[], __stop___llvm_prf_data[];
extern const char __start___llvm_prf_cnts[], __stop___llvm_prf_cnts[];
extern const char __start___llvm_prf_names[], __stop___llvm_prf_names[];

static int put(int fd, const char *data, size_t size)
{
    while (size) {
        ssize_t written = write(fd, data, size);
        if (written <= 0)
            return -1;
        data += written;
        size -= (size_t)written;
    }
    return 0;
}

static void dump(void)
{
    const char *const sections[] = {
        __start___llvm_prf_data,  __stop___llvm_prf_data, __start___llvm_prf_cnts,
        __stop___llvm_prf_cnts,   __start___llvm_prf_names, __stop___llvm_prf_names,
    };
    const char *base = getenv("LAYER_PROFILE");
    char path[4096];
    uint64_t header[6];
    snprintf(path, sizeof path, "%s.%d", base ? base : "", (int)getpid());
    int fd = base ? open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644) : -1;
    if (fd < 0)
        return;
    for (int i = 0; i < 6; i++)
        header[i] = (uintptr_t)sections[i];
    int failed = put(fd, (const char *)header, sizeof header);
    for (int i = 0; i < 6 && !failed; i += 2)
        failed = put(fd, sections[i], (size_t)(sections[i + 1] - sections[i]));
    if (failed)
        unlink(path);
    close(fd);
}

/* The linker puts it in the place of `_exit` (--wrap), by which telemetryd ends. */
_Noreturn void __real__exit(int status);
_Noreturn void __wrap__exit(int status)
{
    dump();
    __real__exit(status);
}
