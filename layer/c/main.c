/* telemetryd/telemetryd: the interpreter with telemetryd, its modules frozen, its C extensions
 * linked in. Nothing of the function's environment is read: no PYTHON* variable, no site-packages,
 * no locale, no pyvenv.cfg. What is not linked in lies in lib/ beside it.
 */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "park.h"
#include "platform.h"

#include <limits.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

PyMODINIT_FUNC PyInit_loop(void);
PyMODINIT_FUNC PyInit__uvloop_names(void);
PyMODINIT_FUNC PyInit__core(void);
PyMODINIT_FUNC PyInit_backend_c(void);
PyMODINIT_FUNC PyInit_telemetryd_scan(void);

static char home[PATH_MAX];
/* plugins/ is not ours: sinks of the function's owner, from a layer or an image of their own. */
static const char *const places[] = {"/lib", "/plugins"};

extern const unsigned char telemetryd_frozen_code[], telemetryd_frozen_end[];

/* The bytecode that modules were loaded from stays mapped, 4 MB of it in memory: the kernel reads it
 * again from the file if something more is loaded. What was freed amid the heap goes back as well.
 */
static PyObject *forget_start(PyObject *self, PyObject *nothing)
{
    size_t size = (size_t)(telemetryd_frozen_end - telemetryd_frozen_code);
    madvise((void *)telemetryd_frozen_code, size, MADV_DONTNEED); /* advice: if not, then not */
    malloc_trim(0);
    Py_RETURN_NONE;
}

static PyObject *make_layer_module(void)
{
    static PyMethodDef functions[] = {
        {"forget_start", forget_start, METH_NOARGS, NULL},
        {NULL, NULL, 0, NULL},
    };
    static struct PyModuleDef definition = {
        PyModuleDef_HEAD_INIT, .m_name = "_layer", .m_methods = functions,
    };
    return PyModule_Create(&definition);
}

static void find_home(void)
{
    ssize_t length = readlink("/proc/self/exe", home, sizeof home - 16);
    home[length > 0 ? length : 0] = 0;
    char *slash = strrchr(home, '/');
    if (slash)
        *slash = 0;
    else
        strcpy(home, "/opt/telemetryd");
}

static PyStatus configure(PyConfig *config, int argc, char **argv)
{
    char place[PATH_MAX];
    const struct {
        wchar_t **place;
        const char *value;
    } texts[] = {
        {&config->executable, argv[0]},      {&config->base_executable, argv[0]},
        {&config->program_name, argv[0]},    {&config->home, home},
        {&config->prefix, home},             {&config->base_prefix, home},
        {&config->exec_prefix, home},        {&config->base_exec_prefix, home},
        {&config->platlibdir, "lib"},
    };
    config->site_import = 0;
    config->write_bytecode = 0;
    config->optimization_level = 2;
    config->pathconfig_warnings = 0;
    config->use_frozen_modules = 1;
    config->parse_argv = 0;
    config->code_debug_ranges = 0;
    config->install_signal_handlers = 1;
    config->_init_main = 0; /* `start` goes on where it ends */
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        PyStatus status = PyConfig_SetBytesString(config, texts[i].place, texts[i].value);
        if (PyStatus_Exception(status))
            return status;
    }
    config->module_search_paths_set = 1;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        strcat(strcpy(place, home), places[i]);
        wchar_t *path = Py_DecodeLocale(place, NULL);
        if (!path)
            return PyStatus_NoMemory();
        PyStatus status = PyWideStringList_Append(&config->module_search_paths, path);
        PyMem_RawFree(path);
        if (PyStatus_Exception(status))
            return status;
    }
    return PyConfig_SetBytesArgv(config, argc, argv);
}

static PyStatus start(int argc, char **argv)
{
    PyPreConfig early;
    PyConfig config;
    PyImport_AppendInittab("uvloop.loop", PyInit_loop);
    PyImport_AppendInittab("_layer", make_layer_module);
    PyImport_AppendInittab("_uvloop_names", PyInit__uvloop_names);
    PyImport_AppendInittab("msgspec._core", PyInit__core);
    PyImport_AppendInittab("zstandard.backend_c", PyInit_backend_c);
    PyImport_AppendInittab("telemetryd_scan", PyInit_telemetryd_scan);
    PyPreConfig_InitIsolatedConfig(&early);
    early.utf8_mode = 1;
    early.configure_locale = 0;
    PyStatus status = Py_PreInitialize(&early);
    if (PyStatus_Exception(status))
        return status;
    PyConfig_InitIsolatedConfig(&config);
    status = configure(&config, argc, argv);
    if (!PyStatus_Exception(status))
        status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status))
        return status;
    PyGC_Disable(); /* what is made from here on stays */
    return _Py_InitializeMain();
}

/* Only reached when telemetryd.__main__ could not even be imported: it ends the process itself. */
static const char *describe_exception(void)
{
    PyObject *error = PyErr_GetRaisedException();
    PyObject *text = error ? PyObject_Repr(error) : NULL;
    const char *described = text ? PyUnicode_AsUTF8(text) : NULL;
    return described ? described : "unknown";
}

int main(int argc, char **argv)
{
    const char *api = getenv("AWS_LAMBDA_RUNTIME_API"), *fault;
    const char *handed_over = getenv(REGISTER_FD);
    int as_extension = argc == 1 && api, fd = handed_over ? atoi(handed_over) : -1;
    mallopt(M_ARENA_MAX, 1); /* one heap: threads here mostly wait */
    find_home();
    PyStatus status = start(argc, argv);
    if (PyStatus_Exception(status)) {
        fault = status.err_msg ? status.err_msg : "unknown";
    } else {
        if (!as_extension)
            PyGC_Enable(); /* the extension does when it is up */
        PyObject *module = PyImport_ImportModule("telemetryd.__main__");
        if (module)
            PyObject_CallMethod(module, "main", NULL);
        fault = describe_exception();
    }
    static struct park park;
    platform_say("interpreter_not_started", fault);
    if (as_extension && park_take_back(&park, api))
        return park_serve(&park);
    return as_extension ? platform_keep_polling(fd, api, platform_base_name(argv[0])) : 70;
}
