/* uvloop, which takes objects of other modules when it loads. Where a facade (layer/facades) has
 * stood in for such a module, `_uvloop_names.renew(module)` has uvloop take the real objects.
 */
#include "uvloop/uvloop/loop.c"

#define HELD(name) __pyx_v_6uvloop_4loop_##name

static const struct {
    const char *module, *name;
    PyObject **held;
} later[] = {
    {"asyncio", "AbstractChildWatcher", &HELD(aio_AbstractChildWatcher)},
    {"ssl", "SSLContext", &HELD(ssl_SSLContext)},
    {"ssl", "MemoryBIO", &HELD(ssl_MemoryBIO)},
    {"ssl", "create_default_context", &HELD(ssl_create_default_context)},
    {"ssl", "SSLError", &HELD(ssl_SSLError)},
    {"ssl", "SSLZeroReturnError", &HELD(ssl_SSLZeroReturnError)},
    {"ssl", "CertificateError", &HELD(ssl_CertificateError)},
    {"subprocess", "SubprocessError", &HELD(subprocess_SubprocessError)},
    {"traceback", "StackSummary", &HELD(tb_StackSummary)},
    {"traceback", "walk_stack", &HELD(tb_walk_stack)},
    {"traceback", "format_list", &HELD(tb_format_list)},
};

/* Of two exceptions uvloop makes a tuple. */
static int renew_again_errors(PyObject *ssl)
{
    PyObject *read = PyObject_GetAttrString(ssl, "SSLWantReadError");
    PyObject *call = PyObject_GetAttrString(ssl, "SSLSyscallError");
    PyObject *both = read && call ? PyTuple_Pack(2, read, call) : NULL;
    Py_XDECREF(read);
    Py_XDECREF(call);
    if (!both)
        return -1;
    Py_XSETREF(HELD(ssl_SSLAgainErrors), both);
    return 0;
}

static PyObject *renew(PyObject *self, PyObject *name)
{
    const char *wanted = PyUnicode_AsUTF8(name);
    PyObject *module = wanted ? PyImport_Import(name) : NULL;
    int failed = !module || (!strcmp(wanted, "ssl") && renew_again_errors(module));
    for (size_t i = 0; !failed && i < sizeof later / sizeof *later; i++) {
        if (strcmp(wanted, later[i].module))
            continue;
        PyObject *found = PyObject_GetAttrString(module, later[i].name);
        failed = !found;
        if (found)
            Py_XSETREF(*later[i].held, found);
    }
    Py_XDECREF(module);
    return failed ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef functions[] = {{"renew", renew, METH_O, NULL}, {NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_uvloop_names", .m_size = 0, .m_methods = functions,
};

PyMODINIT_FUNC PyInit__uvloop_names(void)
{
    return PyModule_Create(&definition);
}
