@echo off
rem Installs lumbarseg from this folder, without network: install.bat [FOLDER]
setlocal
for %%V in (@PYTHONS@) do (
    py -%%V -I "%~dp0install.py" --fits >nul 2>nul
    if not errorlevel 1 (
        py -%%V -I "%~dp0install.py" %*
        goto end
    )
)
python -I "%~dp0install.py" --fits >nul 2>nul
if not errorlevel 1 (
    python -I "%~dp0install.py" %*
    goto end
)
echo lumbarseg: error: no Python @PYTHONS@ (64 bit) found here; install one of them from its own installer first
:end
pause
